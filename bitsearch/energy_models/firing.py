"""What a quantized network did for one input, as torch's layers and SpikingJelly's neurons that do it again.

Models of energy count what such modules do with spikes of one bit. So a spike of level k is k spikes on its way into a
layer, one after another, as :class:`spikingjelly.activation_based.layer.SpikeCountToBinary` unrolls it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from bitsearch.cost import CostModel
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.quantized import ArrivalObserver, Observer
from bitsearch.network_inputs import Inputs
from bitsearch.train.predict import run


class Firing(nn.Module):
    """Layers and neurons in the order they ran, each with what it got; calling it runs them again.

    A layer gets one time step a call, ``[1, ...]``, with batch norm folded into a bias, as it is deployed. Neurons send
    the spikes that were recorded, ``[T, 1, ...]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self._parts: dict[str, nn.Module] = {}
        self._calls: list[tuple[nn.Module, Tensor, Tensor | None]] = []

    def forward(self) -> None:
        """Run all of them, once for every call."""
        functional.reset_net(self)
        for module, inputs, sent in self._calls:
            module.__dict__["sent"] = sent
            module(inputs)

    def add_layer(self, name: str, layer: nn.Module, inputs: Tensor) -> None:
        """Add a call of a layer."""
        self._calls.append((self._part(name, lambda: _plain(layer)), inputs, None))

    def add_neurons(self, name: str, decay: float, levels: Tensor) -> None:
        """Add T time steps of a layer's neurons, by the levels of their spikes."""
        # What they integrate is no spike, and no matter otherwise.
        self._calls.append((self._part(f"{name}, neurons", lambda: _neurons(decay)), levels + 0.5, levels))

    def _part(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        if name not in self._parts:
            self._parts[name] = make().eval()
            self.parts.append(self._parts[name])
        return self._parts[name]


@torch.no_grad()
def record_firing(network: nn.Module, model: CostModel, inputs: Inputs) -> Firing:
    """What a quantized network does for one input, ``[1, ...]`` or ``[T, 1, ...]``.

    The layer that reads the network's own input gets its values, as images or frames come: no neuron encodes them.

    Args:
        network: with its weights.
        model: costs of the network, which know whose neurons a layer reads.
        inputs: of one sample.
    """
    firing = Firing()
    with ExitStack() as stack:
        for name, layer in quantized_layers(network).items():
            layer.observer = _neuron_recorder(firing, name, layer, model)
            stack.callback(setattr, layer, "observer", None)
            if layer.in_place:
                layer.arrival_observer = _arrival_recorder(firing, name, layer)
                stack.callback(setattr, layer, "arrival_observer", None)
        for name, module in network.named_modules():
            if type(module) in QUANTIZABLE:

                def record(module: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                    firing.add_layer(name, module, args[0])

                stack.callback(module.register_forward_pre_hook(record).remove)
        with eval_mode(network):
            run(network, inputs)
    return firing


def _neuron_recorder(firing: Firing, name: str, layer: QuantizedLayer, model: CostModel) -> Observer:
    geometry = next(geometry for geometry in model.layers if geometry.name == name)
    reads_input = geometry.first and not geometry.neurons
    has_neurons = not reads_input and model.neurons_of(name) == name

    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        levels = torch.stack([codes.float() for codes in layer.codes(x, spikes if layer.in_place else None)])
        if has_neurons:
            firing.add_neurons(name, layer.decay, levels)
        if not layer.in_place:
            for step in levels:
                for inputs in [step] if reads_input else _unrolled(step):
                    firing.add_layer(name, layer, inputs)

    return observe


def _arrival_recorder(firing: Firing, name: str, layer: QuantizedLayer) -> ArrivalObserver:
    # Without frames it is their mean over the time steps that arrives, at each of them.
    repeats = 1 if layer.frames is not None else layer.active_steps
    arrived = 0

    def observe(spikes: Tensor) -> None:
        nonlocal arrived
        for sample in spikes.split(1):
            levels = sample / layer.spike_step[arrived % layer.active_steps]
            arrived += 1
            # What a pooling or a sum makes of spikes is none.
            whole = torch.allclose(levels, levels.round(), rtol=0, atol=1e-4)
            for inputs in [*(_unrolled(levels.round()) if whole else [levels])] * repeats:
                firing.add_layer(name, layer, inputs)

    return observe


def _unrolled(levels: Tensor) -> Iterator[Tensor]:
    """Spikes of one bit: as many, one after another, as the highest level; none where no neuron fires."""
    for level in range(max(int(levels.abs().max()), 1)):
        yield (levels.abs() > level).float()


def _plain(layer: nn.Module) -> nn.Module:
    """A layer of torch's own class and of the same shape; its weights are no matter."""
    kind = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.modules"))
    fields: tuple[str, ...] = ("in_features", "out_features")
    if kind is not nn.Linear:
        fields = (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "padding_mode",
        )
    if "Transpose" in kind.__name__:
        fields = (*fields, "output_padding")
    plain: nn.Module = nn.utils.skip_init(kind, **{field: getattr(layer, field) for field in fields})
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 0.5)
    return plain


def _neurons(decay: float) -> nn.Module:
    """SpikingJelly's, which send what was recorded."""
    neurons: nn.Module = neuron.IFNode(v_reset=None, step_mode="m")
    if 0 < decay < 1:
        neurons = neuron.LIFNode(tau=1 / (1 - decay), decay_input=False, v_reset=None, step_mode="m")
    neurons.register_forward_hook(lambda module, args, output: module.sent)
    return neurons
