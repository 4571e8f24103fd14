"""What a network has to keep to on a chip whatever its bits, checked layer by layer before anything is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from bitsearch.cost.geometry import EXCLUSION_REASONS, NEVER_CALLED, LayerGeometry
from bitsearch.cost.layer_choices import listing
from bitsearch.cost.layer_shape import LayerShape
from bitsearch.cost.metric import Vector
from bitsearch.cost.model import CostModel
from bitsearch.cost.target import Target
from bitsearch.cost.target_tables import ConvolutionLimits, LayerKind
from bitsearch.errors import InputError

_ELSEWHERE = (NEVER_CALLED, *EXCLUSION_REASONS)
"""Why a layer without bits is no matter of the chip's."""


@dataclass(frozen=True)
class Fault:
    """One limit that a network exceeds, in words."""

    subject: str
    """The layer, or the network."""
    excess: str
    """What it has."""
    limit: str
    """What the target allows."""
    key: str
    """Where the target says so."""


def check_limits(model: CostModel) -> None:
    """Raise InputError, with layer and limit, if the network does not keep to its hardware target's limits.

    Kinds of reset, which matter with several time steps alone, are checked where the time steps are known, by
    :func:`bitsearch.cost.layer_choices.layer_choices`.
    """
    faults = list(limit_faults(model))
    if not faults:
        return
    first = faults[0]
    others = list(dict.fromkeys(fault.subject for fault in faults if fault.subject != first.subject))
    raise InputError(
        f"{first.subject} {first.excess}, but the hardware target {model.target.name!r} allows {first.limit} "
        f"({first.key}); change the network, or take another target"
        + (f"; {', '.join(others)} exceed limits as well" if others else "")
    )


def limit_faults(model: CostModel) -> Iterator[Fault]:
    """Everything in which a network exceeds its target's limits."""
    target, limits = model.target, model.target.limits
    limited = limits is not None or any(target.of_kind(kind)[1] for kind in get_args(LayerKind))
    for layer in model.layers:
        if layer.shape is not None:
            yield from _kind_faults(f"layer {layer.name!r}", layer.shape, target)
            yield from _layer_faults(layer, layer.shape, model)
        elif limited:
            yield Fault(f"layer {layer.name!r}", "was recorded without its shape", "known shapes only", "trace it anew")
    if limits is not None:
        yield from _network_faults(model)
        yield from _pooling_faults(model)


def _kind_faults(subject: str, shape: LayerShape, target: Target) -> Iterator[Fault]:
    """What a layer exceeds of its kind's table."""
    table, limits = target.of_kind(shape.kind)
    if limits is None:
        return
    if isinstance(limits, ConvolutionLimits):
        yield from _outside(subject, "a kernel of", shape.kernel, f"{table}.kernel_sizes", limits.kernel_sizes)
        yield from _outside(subject, "strides of", shape.stride, f"{table}.strides", limits.strides)
    for channels, key, most in (
        (shape.in_channels, "input_channels", limits.input_channels),
        (shape.out_channels, "output_channels", limits.output_channels),
    ):
        yield from _above(subject, key.replace("_", " "), channels, f"{table}.{key}", most)


def _layer_faults(layer: LayerGeometry, shape: LayerShape, model: CostModel) -> Iterator[Fault]:
    """What a layer exceeds of the limits of all kinds."""
    subject, limits = f"layer {layer.name!r}", model.target.limits
    if limits is None:
        return
    if limits.layer_kinds is not None and shape.kind not in limits.layer_kinds:
        yield Fault(
            subject, f"is a {shape.kind} layer", f"{', '.join(limits.layer_kinds)} layers", "limits.layer_kinds"
        )
    yield from _above(subject, "inputs a neuron", shape.fan_in, "limits.fan_in", limits.fan_in)
    if not layer.first or layer.neurons:
        yield from _above(subject, "neurons that a spike goes to", shape.fan_out, "limits.fan_out", limits.fan_out)
    if layer.first:
        size = max(shape.input_size, default=1)
        yield from _above(subject, "input channels", shape.in_channels, "limits.input_channels", limits.input_channels)
        yield from _above(subject, "pixels a side", size, "limits.input_size", limits.input_size)
    if layer in model.heads:
        yield from _above(
            subject, "output channels", shape.out_channels, "limits.output_channels", limits.output_channels
        )


def _network_faults(model: CostModel) -> Iterator[Fault]:
    """What all layers together exceed, and those that get no bits."""
    limits, geometry = model.target.limits, model.geometry()
    assert limits is not None
    layers = (*model.layers, *model.unquantized)
    for layer in model.unquantized:
        if limits.layer_kinds is not None and layer.fixed_reason not in _ELSEWHERE:
            subject = f"layer {layer.name or '(the network)'!r}"
            kinds = f"{', '.join(limits.layer_kinds)} layers"
            yield Fault(subject, f"gets no bits ({layer.fixed_reason})", kinds, "limits.layer_kinds")
    weighted = sum(bool(layer.weights) or layer.weight_of is not None for layer in layers)
    yield from _above("the network", "layers", weighted, "limits.layers", limits.layers)
    if len(model.heads) > 1:
        outputs = sum(layer.shape.out_channels for layer in model.heads if layer.shape is not None)
        what = f"output channels, those of layers {', '.join(repr(layer.name) for layer in model.heads)}"
        yield from _above("the network", what, outputs, "limits.output_channels", limits.output_channels)
    yield from _sum_above("neurons", geometry.on_chip, layers, "limits.neurons", limits.neurons)
    yield from _sum_above("weights", geometry.weights, layers, "limits.synapses", limits.synapses)


def _pooling_faults(model: CostModel) -> Iterator[Fault]:
    limits = model.target.limits
    if limits is None or limits.pooling is None:
        return
    if model.poolings is None:
        yield Fault("the network", "was recorded without its poolings", "known ones only", "trace it anew")
    for path, kind in (model.poolings or {}).items():
        if kind not in limits.pooling:
            kinds = " or ".join(limits.pooling) or "no"
            yield Fault(
                f"layer {path or '(the network)'!r}", f"has {kind} pooling", f"{kinds} pooling", "limits.pooling"
            )


def _outside(
    subject: str, what: str, sizes: Sequence[int], key: str, allowed: tuple[int, ...] | None
) -> Iterator[Fault]:
    if allowed is not None and not set(sizes) <= set(allowed):
        yield Fault(subject, f"has {what} {'×'.join(map(str, sizes))}", listing(allowed), key)


def _above(subject: str, what: str, count: int, key: str, most: int | None) -> Iterator[Fault]:
    if most is not None and count > most:
        yield Fault(subject, f"has {count:,} {what}", f"{most:,}", key)


def _sum_above(
    what: str, counts: Vector, layers: Sequence[LayerGeometry], key: str, most: int | None
) -> Iterator[Fault]:
    largest = layers[int(counts.argmax())].name
    for fault in _above("the network", what, int(counts.sum()), key, most):
        excess = f"{fault.excess}, {int(counts.max()):,} of them in layer {largest!r}"
        yield Fault(fault.subject, excess, fault.limit, key)
