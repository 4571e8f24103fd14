"""Conversion: convolutions and linear layers become quantized ones, spiking neurons move into them.

It goes by modules, not by graphs, so that a network that no tracer understands converts as well.
"""

from collections.abc import Mapping

from torch import nn

from bitsearch.choices import Choices
from bitsearch.errors import InputError
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.plain_layers import with_plain_layers
from bitsearch.layers.modules import QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedLinear
from bitsearch.layers.neurons.absorption import absorb_relus
from bitsearch.layers.neurons.replacement import replace_neurons
from bitsearch.layers.passes import bound_passes
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.layers.sharing import share_streams, share_weight_steps
from bitsearch.layers.transposed import QuantizedConvTranspose1d, QuantizedConvTranspose2d, QuantizedConvTranspose3d
from bitsearch.plan import BitPlan, LayerPlan
from bitsearch.validation import shown

_KINDS: dict[type[nn.Module], type[QuantizedLayer]] = {
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Conv3d: QuantizedConv3d,
    nn.ConvTranspose1d: QuantizedConvTranspose1d,
    nn.ConvTranspose2d: QuantizedConvTranspose2d,
    nn.ConvTranspose3d: QuantizedConvTranspose3d,
    nn.Linear: QuantizedLinear,
}
_QUANTIZED = {kind: _KINDS[torch_kind] for kind, torch_kind in QUANTIZABLE.items()}


def convert(
    network: nn.Module, plan: Mapping[str, LayerPlan], choices: Mapping[str, Choices] | None = None
) -> nn.Module:
    """A copy of ``network`` in which every layer that ``plan`` names is quantized.

    Spiking neurons in front of them give way to theirs, as :mod:`bitsearch.layers.neurons.replacement` says; ReLUs that
    only feed unsigned quantized layers are left out, as :mod:`bitsearch.layers.neurons.absorption` says. Weights that
    are computed from others, by weight norm for example, are fixed at their values, and those that a neuron keeps to
    itself become layers.

    Args:
        network: left as it is.
        plan: bits of each layer, by module path.
        choices: layers whose bits may move, and within what; the others are fixed.

    Raises:
        InputError: a name that is not in the network, or not a layer that can be quantized; or layers with one weight,
            or one stream of spikes, that the plan gives several widths.
    """
    network = with_plain_layers(network)
    modules = dict(network.named_modules())
    convertible = ", ".join(path for path, module in modules.items() if type(module) in _QUANTIZED)
    for name, layer_plan in plan.items():
        module = modules.get(name)
        if isinstance(module, QuantizedLayer):
            raise InputError(f"layer {name!r} is quantized already; give the float network")
        if module is None or type(module) not in _QUANTIZED:
            raise InputError(f"the network has no layer {name!r} that can be quantized; it has: {convertible}")
        # The layer keeps its weights, hyperparameters and hooks: only its class grows a mixin.
        module.__class__ = _QUANTIZED[type(module)]
        assert isinstance(module, QuantizedLayer)
        module.add_quantization(layer_plan, (choices or {}).get(name))
    share_weight_steps(quantized_layers(network))
    share_streams(quantized_layers(network), plan)
    replace_neurons(network, plan)
    absorb_relus(network, currents=any(layer.neurons is None for layer in plan.values()))
    if any(layer.loop or layer.in_place for layer in plan.values()):
        bound_passes(network, reset=any(layer.loop for layer in plan.values()))
    return network


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """The quantized layers by module path, in the order of the network's modules."""
    return {name: module for name, module in network.named_modules() if isinstance(module, QuantizedLayer)}


def fix_allocation(network: nn.Module, plan: Mapping[str, LayerPlan]) -> None:
    """Fix every quantized layer of ``network`` at the plan's bits, in place."""
    for name, layer in quantized_layers(network).items():
        layer.fix(plan[name])


def apply(plan: BitPlan, network: nn.Module) -> nn.Module:
    """The quantized network of a plan, bits fixed: a copy of ``network`` ready for weights, training or inference.

    Step sizes are set from the first batch unless weights are loaded with :func:`bitsearch.load_weights`.

    Raises:
        InputError: the plan names a layer that the network does not have, or gives one weight several widths.

    >>> plan = bitsearch.BitPlan.load("run/plan.json")
    >>> network = bitsearch.make_network("digits_cnn", {"width": 2}, input_shape=(1, 8, 8), classes=10)
    >>> quantized = bitsearch.apply(plan, network)
    >>> quantized.conv2.layer_plan == plan.layers["conv2"]
    True
    """
    if not isinstance(plan, BitPlan):
        raise InputError(f"plan is {shown(plan)}; give a BitPlan, as BitPlan.load reads it")
    if not isinstance(network, nn.Module):
        raise InputError(f"network is {shown(network)}; give a torch module that is made")
    return convert(network, plan.layers)
