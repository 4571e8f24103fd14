"""Quantized layers that share numbers: what they learn of these is one parameter, so that they stay alike."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bitsearch.cost import AllowedBits
from bitsearch.errors import InputError
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import LayerPlan


def share_weight_steps(layers: Mapping[str, QuantizedLayer]) -> None:
    """Give layers whose weight is one parameter one step size, in place: they quantize it alike.

    Raises:
        InputError: their plans give the one weight several widths, or steps to channels that are not the same.
    """
    groups: dict[Tensor, dict[str, QuantizedLayer]] = {}
    for name, layer in layers.items():
        groups.setdefault(layer.weight, {})[name] = layer
    for group in groups.values():
        (first_name, first), *rest = group.items()
        for name, layer in rest:
            _check_one_grid(first_name, first, name, layer)
            layer.weight_log_step = first.weight_log_step
        for layer in group.values():
            layer.weight_partners = tuple(other for other in group.values() if other is not layer)


def _check_one_grid(first_name: str, first: QuantizedLayer, name: str, layer: QuantizedLayer) -> None:
    for number in ("weight_bits", "granularity", "step_sizes"):
        one, other = (getattr(side.layer_plan, number) for side in (first, layer))
        if one != other:
            raise InputError(
                f"layers {first_name!r} and {name!r} have one weight, and the plan has {number} {one} and {other} for "
                "it; give both the same"
            )
    places = torch.arange(first.weight.numel()).view(first.weight.shape)
    if first.granularity == "channel" and not torch.equal(first.output_first(places), layer.output_first(places)):
        raise InputError(
            f"layers {first_name!r} and {name!r} have one weight, whose channels are outputs of the one and inputs of "
            'the other; set allocation.quantizer.granularity to "layer"'
        )


def share_spike_steps(layers: Iterable[QuantizedLayer]) -> None:
    """Give layers that read one stream of spikes one step size a time step, in place; it stays so when bits are fixed.

    Their plans have the same spike bits, as a tie of ``spike_bits`` and ``time_steps`` makes sure.
    """
    group = tuple(layers)
    for layer in group:
        layer.spike_log_step = group[0].spike_log_step
        layer.spike_partners = tuple(other for other in group if other is not layer)


def share_streams(layers: Mapping[str, QuantizedLayer], plan: Mapping[str, LayerPlan]) -> None:
    """Give layers that read another one's neurons the step sizes of these, in place.

    Raises:
        InputError: a plan in which these layers are not alike, or one names a layer that is not there.
    """
    streams: dict[str, list[str]] = {}
    for name, layer in plan.items():
        if layer.stream is not None:
            streams.setdefault(layer.stream, []).append(name)
    for owner, names in streams.items():
        if owner not in plan or plan[owner].stream is not None or owner in names:
            raise InputError(f"layer {names[0]!r} reads the spikes of {owner!r}, which has no neurons of its own")
        for name in names:
            numbers = ("spike_bits", "time_steps", "spike_granularity", "step_sizes", "membrane_bits")
            for number in (*numbers, "decay", "signed_input", "frames", "loop"):
                one, other = getattr(plan[owner], number), getattr(plan[name], number)
                if one != other:
                    raise InputError(
                        f"layers {owner!r} and {name!r} have one stream of spikes, and the plan has {number} {one} "
                        f"and {other} for it; give both the same"
                    )
        share_spike_steps(layers[name] for name in (owner, *names))


def share_latents(layers: Mapping[str, QuantizedLayer], rules: AllowedBits) -> None:
    """Give learnable layers that share a number one latent of it, in place."""
    for name, layer in layers.items():
        if not layer.is_learnable:
            continue
        for number in ("weight_bits", "spike_bits"):
            first = next(layers[other] for other in rules.sharing(name, number) if layers[other].is_learnable)
            if number == "weight_bits":
                layer.weight_latent = first.weight_latent
            else:
                layer.spike_latent, layer.time_latent = first.spike_latent, first.time_latent
