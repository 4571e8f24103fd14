"""A quantized network: layers whose bits are learned while it trains, or fixed. It knows no budget."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bitsearch.cost import AllowedBits, CostModel, SpikeStatistics
from bitsearch.frameworks.neurons import reset_states
from bitsearch.layers.clipped_input import count_clipped, warn_of_clipped
from bitsearch.layers.conversion import Converted, conversion
from bitsearch.layers.convert import convert, fix_allocation, quantized_layers
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.layers.sharing import share_latents
from bitsearch.plan import LayerPlan, UniformBits

Allocation = tuple[Tensor, Tensor, Tensor]
"""(weight bits, mean spike bits, time steps), each ``[L]``, rounded, with straight-through gradients."""

STEP_RATE = 5.0
"""Learning rate of the steps' logarithms, relative to that of the weights."""


class QuantizedNetwork(nn.Module):
    """A converted network with its cost model; calls go to the network.

    In training mode every call first rounds the latents into the bits that the forward pass uses. Until the first one,
    a network's own neurons send single spikes, whatever their bits, as they did before the conversion.

    Args:
        network: made by :func:`bitsearch.layers.convert`.
        model: costs of the float network it was made from.
        rules: what each layer may get.
        baseline: what a budget such as ``4x`` is a part of.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> quantized = bitsearch.quantize(network, torch.rand(16, 1, 8, 8))
    >>> isinstance(quantized, bitsearch.QuantizedNetwork), list(quantized.layers)[:2]
    (True, ['conv1', 'conv2'])
    """

    def __init__(self, network: nn.Module, model: CostModel, rules: AllowedBits, baseline: UniformBits) -> None:
        super().__init__()
        self.network = network
        self.model, self.rules, self.baseline = model, rules, baseline
        self.activity: SpikeStatistics | None = None
        """Spike counts, for budgets that depend on how often neurons fire."""
        self.soft_accuracy: float | None = None
        """Validation accuracy before soft weight steps became hard ones, where there were any."""
        self.conversion: list[Converted] = []
        """What became of every layer and neuron, where :meth:`learnable` made this."""
        layers = quantized_layers(network)
        self.layers = {layer.name: layers[layer.name] for layer in model.layers}
        """The quantized layers by module path, in the order they run."""
        count_clipped(network, (layer.name for layer in model.layers if layer.follows_input))
        self._optimizer: torch.optim.Optimizer | None = None
        self.changes = 0

    @classmethod
    def learnable(
        cls,
        network: nn.Module,
        model: CostModel,
        *,
        rules: AllowedBits,
        start: UniformBits,
        baseline: UniformBits,
        granularity: str,
        step_sizes: str = "free",
        decay: float | None,
    ) -> Self:
        """A quantized copy of a float network whose costs are known, with learnable bits."""
        plan = rules.nearest(model, start, granularity=granularity, step_sizes=step_sizes, decay=decay)
        searched = {name: rules.choices[name] for name in rules.searched}
        if any(choices.chooses_membranes for choices in searched.values()):
            # While bits move, membranes keep the widths that they start with, and so they cost.
            model = model.with_membranes(plan)
        converted = convert(network, plan, searched)
        quantized = cls(converted, model, rules, baseline)
        share_latents(quantized.layers, rules)
        for layer in quantized.layers.values():
            layer.remember_release()
        quantized.conversion = conversion(network, converted, model)
        return quantized

    def copy(self) -> "QuantizedNetwork":
        """A network of its own with the same weights and bits, of which nothing is measured yet."""
        # Of neurons that stayed: what they keep belongs to a graph that cannot be copied.
        reset_states(self.network)
        return QuantizedNetwork(copy.deepcopy(self.network), self.model, self.rules, self.baseline)

    @property
    def searched_layers(self) -> dict[str, QuantizedLayer]:
        """Those of :attr:`layers` whose bits may still move."""
        return {name: layer for name, layer in self.layers.items() if layer.is_learnable}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the network's own."""
        if self.training:
            self.round_latents()
        return self.network(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """As of every module; here it is said, too, if inputs were below zero that were taken to be never."""
        warn_of_clipped(self.network)
        return super().train(mode)

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Let step renewal reset this optimizer's state of the steps that it replaces."""
        self._optimizer = optimizer

    def merge_gradients(self, parts: int) -> None:
        """Bring the gradients of a batch that was passed through the network in ``parts`` to those of the whole.

        LSQ divides by √numel. In a micro batch, numel is that of the part, so the gradient is rescaled to the whole
        batch.
        """
        if parts == 1:
            return
        # Each once, though several layers may have one.
        for steps in dict.fromkeys(layer.spike_log_step for layer in self.layers.values()):
            if steps.grad is not None:
                steps.grad /= parts**0.5

    def release_spikes(self) -> None:
        """Let the network's own neurons send more than one level, as :meth:`NeuronSettings.multi_bit` says."""
        for layer in self.layers.values():
            layer.release_spikes()

    def round_latents(self) -> None:
        """Bound steps and latents, and round the latents into the allocation; one transfer for the whole network."""
        layers = self.searched_layers
        for layer in self.layers.values():
            layer.clamp_parameters()
        if not layers:
            return
        self.release_spikes()
        latents = [layer.latents for layer in layers.values()]
        for layer, (weight, time_steps, *spikes) in zip(
            layers.values(), pad_sequence(latents, batch_first=True).detach().tolist(), strict=True
        ):
            if layer.round_latents(weight, spikes, time_steps):
                self.changes += 1
                self._forget_momentum(layer)

    def _forget_momentum(self, layer: QuantizedLayer) -> None:
        if self._optimizer is None:
            return
        for parameter in (layer.weight_log_step, layer.spike_log_step):
            for name, value in self._optimizer.state.get(parameter, {}).items():
                if name != "step" and isinstance(value, Tensor):
                    value.zero_()

    def parameter_groups(
        self,
        lr: float,
        *,
        weight_decay: float = 0.0,
        bits_learning_rate: float = 0.1,
        time_learning_rate: float = 0.05,
    ) -> list[dict[str, Any]]:
        """Groups for a torch optimizer: weights, everything without decay, bit latents, time latents."""
        bits: list[nn.Parameter] = []
        times: list[nn.Parameter] = []
        steps: list[nn.Parameter] = []
        for layer in self.layers.values():
            steps += [layer.weight_log_step, layer.spike_log_step]
            if layer.is_learnable:
                bits += [layer.weight_latent, layer.spike_latent]  # type: ignore[list-item]  # parameters here
                times += [layer.time_latent]  # type: ignore[list-item]  # parameters while the layer is learnable
        bits, times, steps = (list(dict.fromkeys(parameters)) for parameters in (bits, times, steps))
        grouped = {id(parameter) for parameter in bits + times + steps}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in grouped]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "lr": lr, "weight_decay": weight_decay},
            {"params": [p for p in rest if p.dim() <= 1], "lr": lr, "weight_decay": 0.0},
            {"params": steps, "lr": lr * STEP_RATE, "weight_decay": 0.0},
            {"params": bits, "lr": bits_learning_rate, "weight_decay": 0.0, "latents": True},
            {"params": times, "lr": time_learning_rate, "weight_decay": 0.0, "latents": True},
        ]
        return [group for group in groups if group["params"]]

    @property
    def allocation(self) -> Allocation:
        """Rounded bits of all layers as ``[L]`` tensors, with straight-through gradients to the latents."""
        names = list(self.layers)
        plans = [layer.layer_plan for layer in self.layers.values()]
        device = next(self.network.parameters()).device
        rounded = torch.tensor([[plan.weight_bits, plan.mean_spike_bits, plan.time_steps] for plan in plans])
        weights, spikes, time_steps = rounded.to(device, torch.float32).unbind(1)
        searched = self.searched_layers
        if not searched:
            return weights, spikes, time_steps
        # All layers at once: a few operations on vectors instead of a dozen a layer.
        rows = torch.tensor([names.index(name) for name in searched], device=device)
        latents = pad_sequence([layer.latents for layer in searched.values()], batch_first=True)
        active = torch.zeros(latents.shape[0], latents.shape[1] - 2)
        for row, layer in enumerate(searched.values()):
            active[row, : layer.active_steps] = 1 / layer.active_steps
        moving = (latents[:, 0], (latents[:, 2:] * active.to(device)).sum(1), latents[:, 1])
        # The value is the rounded one, the gradient goes to the latents.
        weights, spikes, time_steps = (
            fixed.index_add(0, rows, latent - latent.detach())
            for fixed, latent in zip((weights, spikes, time_steps), moving, strict=True)
        )
        return weights, spikes, time_steps

    @property
    def layer_plans(self) -> dict[str, LayerPlan]:
        """The rounded allocation, layer by layer."""
        return {name: layer.layer_plan for name, layer in self.layers.items()}

    def fix(self, plan: Mapping[str, LayerPlan]) -> None:
        """Freeze the bits at a plan's; what follows is fine-tuning. Make a new optimizer afterwards."""
        fix_allocation(self.network, plan)
