"""Layer geometry, traced on the real network by one forward pass."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod

from torch import Tensor, nn

from bitsearch.cost.operations import QUANTIZABLE, Call, Recording, record
from bitsearch.errors import InputError, located
from bitsearch.frameworks.spikingjelly import decay, is_neuron

NEVER_CALLED = "never called"
"""``LayerGeometry.fixed_reason`` of a layer that the example's forward pass does not call."""
EXCLUSION_REASONS = ("not included", "excluded")
"""``LayerGeometry.fixed_reason`` of a layer that no ``include``, or an ``exclude``, matches."""


@dataclass(frozen=True)
class LayerGeometry:
    """Counts of one layer for one input and one time step, from which the cost of any bits follows."""

    name: str
    """Module path in the network."""
    macs: int
    """Multiply-accumulates; conventions in :func:`bitsearch.cost.operations.record`."""
    weights: int
    """Weight elements, without biases and without weights that an earlier layer shares."""
    inputs: int
    """Input features, each of which is a spike; 0 for a module without multiplications."""
    outputs: int
    """Output channels, each of which has a bias; of a module without channels, its biases."""
    signed_input: bool
    """True if the layer's input had negative values in the example."""
    first: bool
    """True for the first layer with weights in the forward pass."""
    fixed_reason: str | None = None
    """The reason for which the layer cannot be given bits; None if it can."""
    frames: int | None = None
    """Length of the time axis of the layer's input; None without one."""
    is_static_input: bool = False
    """True if the example was constant along the time axis: a repeated static input."""
    decay: float | None = None
    """Membrane decay of the last spiking neuron before the layer; None without one."""


def trace(
    network: nn.Module,
    example_input: Tensor,
    names: Iterable[str] | None = None,
    *,
    time_axis: bool = False,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> list[LayerGeometry]:
    """Run ``example_input`` (``[N, ...]``) through ``network`` once and measure every layer, as :func:`measure` does.

    Args:
        network: any module; its mode, weights and buffers are unchanged.
        example_input: a batch of the network's inputs.
        names: module paths of the layers to return; None for all that :func:`measure` returns.
        time_axis: True if the example has a time axis, ``[T, N, ...]``.
        include: globs of module paths; a layer gets bits if it, or a module around it, matches one.
        exclude: globs of module paths without bits; they take precedence over ``include``.

    Returns:
        With ``names``, these layers, of which the first is marked as ``first``. Without, the layers that can be given
        bits and those with a ``fixed_reason``; warnings then list the layers that keep 32 bits and those never called.

    Raises:
        InputError: the network cannot run the example, has no layer that can be given bits, or a glob has no match.
    """
    layers = _with_exclusions(measure(network, example_input, time_axis=time_axis), network, include, exclude)
    if names is not None:
        name_set = set(names)
        measured_layers = [layer for layer in layers if layer.fixed_reason is None and layer.name in name_set]
        layers = [replace(layer, first=index == 0) for index, layer in enumerate(measured_layers)]
    if all(layer.fixed_reason for layer in layers):
        reasons = "".join(f"; {layer.name or '(the network)'}: {layer.fixed_reason}" for layer in layers[:3])
        raise InputError(f"the network has no convolution or linear layer that could be quantized{reasons}")
    if names is None:
        silent = (None, NEVER_CALLED, *EXCLUSION_REASONS)
        _warn("kept at 32 bits", [layer for layer in layers if layer.fixed_reason not in silent])
        _warn("never called, and kept at 32 bits", [layer for layer in layers if layer.fixed_reason == NEVER_CALLED])
    return layers


def _with_exclusions(
    layers: list[LayerGeometry], network: nn.Module, include: Sequence[str], exclude: Sequence[str]
) -> list[LayerGeometry]:
    """The layers, with a ``fixed_reason`` for those that the globs exclude."""
    paths = [name for name, _ in network.named_modules()]
    for glob in (*include, *exclude):
        if not any(fnmatchcase(path, glob) for path in paths):
            names = ", ".join(layer.name for layer in layers if layer.fixed_reason is None)
            raise InputError(f"no module matches {glob!r}; the layers that can be given bits: {names}")

    def matches(name: str, globs: Sequence[str]) -> bool:
        parts = name.split(".")
        return any(fnmatchcase(".".join(parts[:end]), glob) for end in range(1, len(parts) + 1) for glob in globs)

    def reason(layer: LayerGeometry) -> str | None:
        if layer.fixed_reason is None and not matches(layer.name, include):
            return EXCLUSION_REASONS[0]
        if layer.fixed_reason is None and matches(layer.name, exclude):
            return EXCLUSION_REASONS[1]
        return layer.fixed_reason

    return [replace(layer, fixed_reason=reason(layer)) for layer in layers]


def _warn(message: str, layers: list[LayerGeometry]) -> None:
    if layers:
        # An operation between the layers of the whole network has the empty path.
        names = ", ".join(layer.name or "(the network)" for layer in layers)
        warnings.warn(f"{message}: {names}", stacklevel=3)


def measure(network: nn.Module, example_input: Tensor, *, time_axis: bool = False) -> list[LayerGeometry]:
    """Measure every module of ``network`` that has weights or multiplies, whether it can be given bits or not.

    The entries are the layers of :data:`bitsearch.cost.operations.QUANTIZABLE`; and, with a ``fixed_reason``, other
    modules with parameters of two or more dimensions, modules with products outside of layers (such as attention's
    q·k), and modules with weights that are never called.

    A module under several names, or called several times, is one entry: every call counts, its weights once. Counts are
    for one input, over all calls; with a time axis, ``[T, N, ...]``, of the example or of spikingjelly's modules in
    multi-step mode, they are for one input and one time step. Modules inside TorchScript modules are not counted, nor
    matrix products in kernels that FlopCounterMode does not know.

    Arguments and errors as for :func:`trace`, except that a network without layers to quantize is no error. Entries are
    in the order of their first calls, a block after the layers inside it; modules that are never called come last.
    """
    try:
        recording = record(network, example_input, time_axis=time_axis)
    except Exception as error:  # whatever a network's own code may raise
        shape = tuple(example_input.shape)
        raise InputError(f"the network cannot run an input of shape {shape}: {located(error)}") from error
    names = {module: name for name, module in network.named_modules()}
    never_called = [module for module in names if module not in recording.calls]
    layers: list[LayerGeometry] = []
    counted_weights: set[Tensor] = set()
    neuron_decay: float | None = None
    for module in [*recording.calls, *never_called]:
        if is_neuron(module):
            neuron_decay = decay(module)
        calls, weights = recording.calls.get(module, []), _weights(module)
        macs = _per_sample(recording, calls, [call.macs for call in calls])
        if not weights and not macs:
            continue
        layers.append(
            LayerGeometry(
                name=names[module],
                macs=macs,
                weights=sum(weight.numel() for weight in weights if weight not in counted_weights),
                inputs=_per_sample(recording, calls, [prod(call.shape) for call in calls]) if macs else 0,
                outputs=_channels(module),
                signed_input=any(call.negative for call in calls),
                first=bool(weights) and bool(calls) and not counted_weights,
                fixed_reason=_fixed_reason(module, recording, macs),
                frames=next((recording.frames(call.shape) for call in calls), None),
                is_static_input=bool(calls) and all(call.is_static_input for call in calls),
                decay=neuron_decay,
            )
        )
        counted_weights.update(weights)
    return layers


def _per_sample(recording: Recording, calls: list[Call], counts: list[int]) -> int:
    return sum(count // recording.samples(call.shape) for call, count in zip(calls, counts, strict=True))


def _weights(module: nn.Module) -> list[Tensor]:
    """Weight matrices and kernels of the module itself, without those of its submodules."""
    if type(module) in QUANTIZABLE:
        # With weight norm, the weight is no parameter but is computed from two.
        assert isinstance(module.weight, Tensor)
        return [module.weight]
    return [parameter for parameter in module.parameters(recurse=False) if parameter.dim() >= 2]


def _channels(module: nn.Module) -> int:
    channels = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if isinstance(channels, int):
        return channels
    return sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() == 1)


def _fixed_reason(module: nn.Module, recording: Recording, macs: int) -> str | None:
    layer_type = type(module)
    weights = _weights(module)
    if module not in recording.calls:
        is_used = any(weight in recording.used_parameters for weight in weights)
        return "its weights are used without calling it" if is_used else NEVER_CALLED
    if layer_type in QUANTIZABLE:
        return None
    for base_type in QUANTIZABLE:
        if isinstance(module, base_type):
            return f"a subclass of {base_type.__name__} ({layer_type.__module__}.{layer_type.__qualname__})"
    if not weights:
        return "matrix products outside of layers"
    return f"{layer_type.__name__} cannot be given bits" + ("" if macs else "; no matrix products were seen in it")
