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
"""``LayerGeometry.fixed`` of a layer whose weights are only stored."""
ASKED = ("not included", "excluded")
"""``LayerGeometry.fixed`` of a layer that the user leaves out."""


@dataclass(frozen=True)
class LayerGeometry:
    """What one layer costs before any bits are chosen: counts for one input and one time step."""

    name: str
    """Module path in the network."""
    macs: int
    """Multiply-accumulates; conventions in :func:`bitsearch.cost.operations.record`."""
    weights: int
    """Weight elements, without biases; those shared with an earlier layer are not counted again."""
    inputs: int
    """Input features, each of which is a spike; 0 where nothing is multiplied."""
    outputs: int
    """Output channels, each of which has a bias; in a module that is no such layer, its biases."""
    signed_input: bool
    """True if the example's values at this layer went below zero."""
    first: bool
    """True for the layer that ran first among all with weights."""
    fixed: str | None = None
    """Why it cannot be given bits; None if it can."""
    frames: int | None = None
    """Length of its input's time axis; None without one."""
    is_static_input: bool = False
    """True if the example did not change along that axis: a static input, repeated."""
    decay: float | None = None
    """Membrane decay of the spiking neuron that ran last before it; None if there was none."""


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
        network: any module; its mode, weights and buffers are left as they were.
        example_input: a batch as the network gets in use.
        names: module paths of the layers to measure; None takes everything that :func:`measure` finds.
        time_axis: True if the example has one, ``[T, N, ...]``.
        include: globs of module paths; a layer gets bits if it, or a module around it, matches one.
        exclude: globs of module paths that do not get any; they win over ``include``.

    Returns:
        With ``names``, these layers, the first of them marked as such. Without, the layers that can be given bits and
        all that is ``fixed``; warnings then list what is kept at 32 bits and what never ran.

    Raises:
        InputError: the network cannot run the example, holds no layer that can be given bits, or no module that one of
            the globs matches.
    """
    layers = _chosen(measure(network, example_input, time_axis=time_axis), network, include, exclude)
    if names is not None:
        wanted = set(names)
        chosen = [layer for layer in layers if layer.fixed is None and layer.name in wanted]
        layers = [replace(layer, first=index == 0) for index, layer in enumerate(chosen)]
    if all(layer.fixed for layer in layers):
        why = "".join(f"; {layer.name or '(the network)'}: {layer.fixed}" for layer in layers[:3])
        raise InputError(f"the network has no convolution or linear layer that could be quantized{why}")
    if names is None:
        _warn("kept at 32 bits", [layer for layer in layers if layer.fixed not in (None, NEVER_CALLED, *ASKED)])
        _warn("never called, and kept at 32 bits", [layer for layer in layers if layer.fixed == NEVER_CALLED])
    return layers


def _chosen(
    layers: list[LayerGeometry], network: nn.Module, include: Sequence[str], exclude: Sequence[str]
) -> list[LayerGeometry]:
    """The layers, those that the globs leave out fixed."""
    paths = [name for name, _ in network.named_modules()]
    for glob in (*include, *exclude):
        if not any(fnmatchcase(path, glob) for path in paths):
            found = ", ".join(layer.name for layer in layers if layer.fixed is None)
            raise InputError(f"no module matches {glob!r}; the layers that can be given bits: {found}")

    def matches(name: str, globs: Sequence[str]) -> bool:
        parts = name.split(".")
        return any(fnmatchcase(".".join(parts[:end]), glob) for end in range(1, len(parts) + 1) for glob in globs)

    def reason(layer: LayerGeometry) -> str | None:
        if layer.fixed is None and not matches(layer.name, include):
            return ASKED[0]
        if layer.fixed is None and matches(layer.name, exclude):
            return ASKED[1]
        return layer.fixed

    return [replace(layer, fixed=reason(layer)) for layer in layers]


def _warn(what: str, layers: list[LayerGeometry]) -> None:
    if layers:
        # An operation between the layers of the whole network has the empty path.
        names = ", ".join(layer.name or "(the network)" for layer in layers)
        warnings.warn(f"{what}: {names}", stacklevel=3)


def measure(network: nn.Module, example_input: Tensor, *, time_axis: bool = False) -> list[LayerGeometry]:
    """Everything in ``network`` that holds weights or multiplies, whether it can be given bits or not.

    That is every layer of :data:`bitsearch.cost.operations.QUANTIZABLE`; and, with the reason in ``fixed``, every other
    module with parameters of two or more dimensions, products outside of layers (such as attention's q·k) under the
    module they happen in, and modules with weights that never run.

    A module under several names, or called several times, is one entry: all calls count, its weights once. Counts are
    for one input: one called once a time step counts every step. Where there is a time axis, ``[T, N, ...]``, that of
    the example or one that spikingjelly's modules in multi-step mode work on, they are for one input and one time step.
    Not counted: modules inside TorchScript modules, and matrix products in kernels that FlopCounterMode does not know.

    Arguments and errors as for :func:`trace`, except that a network without layers to quantize is no error. Returns
    them in the order of their first calls, a block after the layers inside it; those never called come last.
    """
    try:
        recording = record(network, example_input, time_axis=time_axis)
    except Exception as error:  # whatever a network's own code may raise
        shape = tuple(example_input.shape)
        raise InputError(f"the network cannot run an input of shape {shape}: {located(error)}") from error
    names = {module: name for name, module in network.named_modules()}
    never_called = [module for module in names if module not in recording.calls]
    layers: list[LayerGeometry] = []
    counted: set[Tensor] = set()
    leak: float | None = None
    for module in [*recording.calls, *never_called]:
        if is_neuron(module):
            leak = decay(module)
        calls, weights = recording.calls.get(module, []), _weights(module)
        macs = _per_sample(recording, calls, [call.macs for call in calls])
        if not weights and not macs:
            continue
        layers.append(
            LayerGeometry(
                name=names[module],
                macs=macs,
                weights=sum(weight.numel() for weight in weights if weight not in counted),
                inputs=_per_sample(recording, calls, [prod(call.shape) for call in calls]) if macs else 0,
                outputs=_channels(module),
                signed_input=any(call.negative for call in calls),
                first=bool(weights) and bool(calls) and not counted,
                fixed=_why_fixed(module, recording, macs),
                frames=next((recording.frames(call.shape) for call in calls), None),
                is_static_input=bool(calls) and all(call.is_static_input for call in calls),
                decay=leak,
            )
        )
        counted.update(weights)
    return layers


def _per_sample(recording: Recording, calls: list[Call], counts: list[int]) -> int:
    return sum(count // recording.samples(call.shape) for call, count in zip(calls, counts, strict=True))


def _weights(module: nn.Module) -> list[Tensor]:
    """Its own weight matrices and kernels."""
    if type(module) in QUANTIZABLE:
        # With weight norm, this is not a parameter but made of two.
        assert isinstance(module.weight, Tensor)
        return [module.weight]
    return [parameter for parameter in module.parameters(recurse=False) if parameter.dim() >= 2]


def _channels(module: nn.Module) -> int:
    channels = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if isinstance(channels, int):
        return channels
    return sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() == 1)


def _why_fixed(module: nn.Module, recording: Recording, macs: int) -> str | None:
    kind = type(module)
    weights = _weights(module)
    if module not in recording.calls:
        used = any(weight in recording.used for weight in weights)
        return "its weights are used without calling it" if used else NEVER_CALLED
    if kind in QUANTIZABLE:
        return None
    for parent in QUANTIZABLE:
        if isinstance(module, parent):
            return f"a subclass of {parent.__name__} ({kind.__module__}.{kind.__qualname__})"
    if not weights:
        return "matrix products outside of layers"
    return f"{kind.__name__} cannot be given bits" + ("" if macs else "; no matrix products were seen in it")
