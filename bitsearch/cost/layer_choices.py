"""What each layer may get, and by which rule: the space's choices and layer rules, within the hardware target's."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from bitsearch.choices import NUMBERS, Choices, FirstLayer, Number, Span
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.model import CostModel
from bitsearch.cost.target import Target
from bitsearch.cost.target_tables import LayerKind, RequiredBits
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, Setting, check_globs, last_rule
from bitsearch.plan import NeuronSettings

MAX_LISTED_VALUES = 16
"""Values of an unbroken range that a message lists one by one."""
SETTINGS: tuple[Setting, ...] = ("granularity", "spike_granularity", "step_sizes", "quantizer")


@dataclass(frozen=True)
class LayerChoices:
    """What one layer may get."""

    choices: Choices
    origins: Mapping[str, str]
    """By number or setting, the rule that it comes from, in words."""
    settings: Mapping[Setting, str]
    """How the layer is quantized, where a rule says it."""


@dataclass(frozen=True)
class _Values:
    """The values of one number of one layer, and the rule that they come from, in words."""

    span: Span
    origin: str
    by_rule: bool = False
    """True if a layer rule of the space names them."""


def layer_choices(
    model: CostModel, choices: Choices, first_layer: FirstLayer, rules: Sequence[LayerRule]
) -> dict[str, LayerChoices]:
    """What every layer with bits may get, in the order they run; arguments as for :meth:`AllowedBits.make`.

    Raises:
        InputError: a glob that matches no layer, or rules that leave a layer nothing.
    """
    _check_choices(choices, model.target)
    names = [layer.name for layer in model.layers]
    for rule in rules:
        check_globs("[[layers]]", rule.match, names)
    for rule in model.target.layers:
        check_globs(f"target {model.target.name!r}, [[layers]]", rule.match, names)
    for layer in model.layers:
        _check_loop(layer, model.target)
    heads = {layer.name for layer in model.heads}
    allowed = {}
    for layer in model.layers:
        target, required = model.target, None
        if layer.first:
            required = (target.first_layer, "first_layer")
        elif layer.name in heads:
            required = (target.last_layer, "last_layer")
        values = {}
        for number in NUMBERS:
            of_space = _of_space(number, layer, model, choices, first_layer, rules)
            values[number] = _on_target(number, layer, target, of_space, required)
        _check_reset(layer, values["time_steps"], target)
        settings, origins = _settings(layer.name, target, rules)
        membranes, origin = _membrane_bits(layer, target, choices, rules, settings, values["spike_bits"].span.low)
        if membranes is not None:
            said = "" if origin == "choices" else f" ({listing(membranes.values)})"
            origins |= {"membrane_bits": f"{origin}{said}"}
            held = range(1, membranes.low + layer.signed_input)
            values["spike_bits"] = _cut(
                layer.name, "spike_bits", values["spike_bits"], f"{origin}: membrane_bits", held
            )
        allowed[layer.name] = LayerChoices(
            Choices(**{number: value.span for number, value in values.items()}, membrane_bits=membranes),
            {number: value.origin for number, value in values.items()} | origins,
            settings,
        )
    return allowed


def _membrane_bits(
    layer: LayerGeometry,
    target: Target,
    choices: Choices,
    rules: Sequence[LayerRule],
    settings: Mapping[Setting, str],
    least_spike_bits: int,
) -> tuple[Span | None, str]:
    """The widths of a layer's membranes where something says them, and what does.

    A rule of the space's is as it stands. Of the choices, those are left that the target has and that hold the layer's
    narrowest spikes.
    """
    name, rule = layer.name, last_rule(rules, layer.name, "membrane_bits")
    limit = last_rule(target.layers, name, "membrane_bits")
    of_target = f"target {target.name!r}, [[layers]] {limit}"
    most, who = target.membrane_bits, f"target {target.name!r}"
    if limit is not None and limit.membrane_bits is not None:
        most, who = limit.membrane_bits.high, of_target
    if rule is not None and rule.membrane_bits is not None:
        widths, origin = rule.membrane_bits, f"[[layers]] {rule}"
        if widths.high > most:
            raise InputError(
                f"layer {name!r} has membrane_bits {listing(widths.values)} by {origin}, and {who} has membranes of "
                f"{most}; give at most that"
            )
    elif choices.membrane_bits is not None:
        origin = "choices"
        held = choices.membrane_bits.within(range(least_spike_bits + (not layer.signed_input), most + 1))
        if held is None:
            raise InputError(
                f"layer {name!r} may get membrane_bits {listing(choices.membrane_bits.values)} by {origin}, but {who} "
                f"has membranes of {most}, and they hold its spikes of {least_spike_bits} bits from "
                f"{least_spike_bits + (not layer.signed_input)} on; give a width in between"
            )
        widths = held
    elif limit is not None and limit.membrane_bits is not None:
        widths, origin = limit.membrane_bits, of_target
    else:
        return None, ""
    if settings.get("spike_granularity") == "step":
        raise InputError(
            f"layer {name!r} has membrane_bits {listing(widths.values)} by {origin}, and spike_granularity 'step' by "
            "another rule; a membrane counts in one step size: leave one of them out"
        )
    return widths, origin


def _of_space(
    number: Number,
    layer: LayerGeometry,
    model: CostModel,
    choices: Choices,
    first_layer: FirstLayer,
    rules: Sequence[LayerRule],
) -> _Values:
    """What the search space gives the layer."""
    rule = last_rule(rules, layer.name, number)
    if rule is not None:
        return _Values(getattr(rule, number), f"[[layers]] {rule}", by_rule=True)
    if layer.first:
        value = getattr(model.first_bits(layer, first_layer), number)
        return _Values(Span(low=value, high=value), "first_layer")
    return _Values(getattr(choices, number), "choices")


def _on_target(
    number: Number,
    layer: LayerGeometry,
    target: Target,
    values: _Values,
    required: tuple[RequiredBits | None, str] | None,
) -> _Values:
    """Of these, what the target and the layer's frames leave."""
    if required is not None and (value := getattr(required[0], number, None)) is not None:
        origin = f"target {target.name!r}, {required[1]}"
        if values.by_rule and value not in values.span:
            raise InputError(_contradiction(layer.name, number, values, origin, (value,)))
        return _Values(Span(low=value, high=value), origin)
    limit = last_rule(target.layers, layer.name, number)
    table, of_kind = target.of_kind(layer.shape.kind) if layer.shape is not None else ("", None)
    if limit is not None:
        of_target = f"target {target.name!r}, [[layers]] {limit}"
        values = _cut(layer.name, number, values, of_target, getattr(limit, number).values)
    elif number == "weight_bits" and of_kind is not None and of_kind.weight_bits is not None:
        values = _cut(layer.name, number, values, f"target {target.name!r}, [{table}]", of_kind.weight_bits)
    elif not layer.first or values.by_rule:
        # The first layer's own bits are checked by check_first_layer.
        values = _cut(layer.name, number, values, f"target {target.name!r}", target_values(target)[number])
    return values if number != "time_steps" or layer.frames is None else _within_frames(layer, values)


def _cut(name: str, number: Number, values: _Values, origin: str, allowed: Sequence[int]) -> _Values:
    span = values.span.within(allowed)
    if span is None:
        raise InputError(_contradiction(name, number, values, origin, allowed))
    return values if span == values.span else _Values(span, f"{values.origin}; {origin}", values.by_rule)


def _contradiction(name: str, number: Number, values: _Values, origin: str, allowed: Sequence[int]) -> str:
    return (
        f"layer {name!r} may get {number} {listing(values.span.values)} by {values.origin}, and by {origin} only "
        f"{listing(allowed)}; let both have a value in common, or take another target"
    )


def _within_frames(layer: LayerGeometry, values: _Values) -> _Values:
    assert layer.frames is not None
    subject = f"{values.origin.partition(';')[0]}: time_steps" if values.by_rule else "choices.time_steps"
    given = listing(values.span.values)
    if layer.loop == "frames":
        # The network's own loop takes a step a frame.
        if values.by_rule and layer.frames not in values.span:
            raise InputError(
                f"{subject} are {given}, but layer {layer.name!r} is called once a frame, for {layer.frames} frames; "
                "leave its time steps out"
            )
        return _Values(Span(low=layer.frames, high=layer.frames), "called once a frame", values.by_rule)
    span = values.span.within(range(1, layer.frames + 1))
    if span is None:
        raise InputError(
            f"{subject} are {given}, but layer {layer.name!r} has an input of {layer.frames} frames; allow at most "
            "that many time steps"
        )
    return values if span == values.span else _Values(span, f"{values.origin}; {layer.frames} frames", values.by_rule)


def _settings(name: str, target: Target, rules: Sequence[LayerRule]) -> tuple[dict[Setting, str], dict[str, str]]:
    """How a layer is quantized where a rule says it, and which rule does."""
    settings: dict[Setting, str] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        rule, limit = last_rule(rules, name, setting), last_rule(target.layers, name, setting)
        value = None if rule is None else getattr(rule, setting)
        required = None if limit is None else getattr(limit, setting)
        if value is not None and (required or value) != value:
            raise InputError(
                f"layer {name!r} has {setting} {value!r} by [[layers]] {rule}, and {required!r} by target "
                f"{target.name!r}, [[layers]] {limit}; give both the same, or take another target"
            )
        if setting == "granularity" and value is not None and required is None:
            check_granularity(value, target, f"[[layers]] {rule}: granularity", "set it")
        if value is not None or required is not None:
            settings[setting] = value or required or ""
            origins[setting] = f"target {target.name!r}, [[layers]] {limit}" if value is None else f"[[layers]] {rule}"
    return settings, origins


def check_granularity(
    granularity: str, target: Target, subject: str = "granularity", advice: str = "set allocation.quantizer.granularity"
) -> None:
    """Raise InputError unless the target supports weight step sizes of this granularity."""
    if granularity not in target.granularity:
        raise InputError(
            f"{subject} is {granularity!r}, but the hardware target {target.name!r} has one weight step size a "
            f"{' or a '.join(target.granularity)}; {advice} to that"
        )


def warn_of_own_steps(spike_granularity: str | None, target: Target) -> None:
    """Warn where time steps have step sizes of their own, and so membranes no width, but the target has one."""
    if spike_granularity == "step" and target.plan_membrane_bits is not None:
        warnings.warn(
            f"the hardware target {target.name!r} has membranes of {target.membrane_bits} bits, whose unit is one step "
            "size a layer; with allocation.quantizer.spike_granularity = 'step' they take as many bits as they need",
            stacklevel=3,
        )
    elif spike_granularity == "step" and target.accumulator_bits is not None:
        warnings.warn(
            f"the hardware target {target.name!r} has accumulators of {target.accumulator_bits} bits; with "
            "allocation.quantizer.spike_granularity = 'step' sums over steps are wider than the search counts, and "
            "deploy refuses those that do not fit",
            stacklevel=3,
        )


def check_first_layer(first_layer: FirstLayer, target: Target) -> None:
    """Raise InputError if the target supports the first layer's bits neither in general nor by a first-layer rule."""
    for name, values in target_values(target).items():
        value = getattr(first_layer.bits(), name)
        if name == "weight_bits":
            # Its kind is not known yet; layer_choices looks again.
            values = sorted({*values, *_widths_of_kinds(target)})
        if getattr(target.first_layer, name, None) is None and value not in values:
            raise InputError(
                f"first_layer.{name} is {value}, but the hardware target {target.name!r} allows "
                f"{listing(values)}; set it to one of these, or give the target a [first_layer] of its own"
            )


def _check_choices(choices: Choices, target: Target) -> None:
    """Raise InputError unless the target allows some of the choices of every number."""
    for name, values in target_values(target).items():
        span: Span = getattr(choices, name)
        if span.within(values) is None and not (name == "weight_bits" and span.within(_widths_of_kinds(target))):
            raise InputError(
                f"choices.{name} of the search space, {listing(span.values)}, are none of the hardware target "
                f"{target.name!r}, which allows {listing(values)}; widen the choices, or take another target"
            )


def _widths_of_kinds(target: Target) -> set[int]:
    """Weight bits that some kind of layer may have."""
    tables = [target.of_kind(kind)[1] for kind in get_args(LayerKind)]
    return {bits for table in tables if table is not None for bits in table.weight_bits or ()}


def target_values(target: Target) -> dict[Number, Sequence[int]]:
    """By number, what a target allows a layer without a rule."""
    return {
        "weight_bits": target.weight_bits,
        # A membrane has room for the largest spike, and its sign.
        "spike_bits": [bits for bits in target.spike_bits if bits < target.membrane_bits],
        "time_steps": range(1, target.max_time_steps + 1),
    }


def listing(values: Sequence[int]) -> str:
    """Values as a message lists them."""
    if len(values) > MAX_LISTED_VALUES and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]}, …, {values[-1]}"
    return ", ".join(str(value) for value in values)


def _check_reset(layer: LayerGeometry, time_steps: _Values, target: Target) -> None:
    """Raise InputError if the layer may get several time steps with neurons that reset as the target's do not."""
    # A neuron with a sign has no reset to choose.
    settings = NeuronSettings() if layer.neuron is None or layer.signed_input else layer.neuron
    reset, most = settings.reset, time_steps.span.high
    allowed = None if target.limits is None else target.limits.resets
    encodes = layer.first and not layer.neurons
    if allowed is not None and reset not in allowed and most > 1 and not encodes:
        raise InputError(
            f"layer {layer.name!r} has neurons with reset {reset!r} and up to {most} time steps, but the hardware "
            f"target {target.name!r} allows {' or '.join(allowed)} (limits.resets); set neuron.reset in "
            "the search space, give the network such neurons, or one time step"
        )


def _check_loop(layer: LayerGeometry, target: Target) -> None:
    """Raise InputError if the network's own loop takes more steps than the target has."""
    if layer.loop == "frames" and layer.frames is not None and layer.frames > target.max_time_steps:
        raise InputError(
            f"the network calls layer {layer.name!r} once a frame, for {layer.frames} frames, but the hardware target "
            f"{target.name!r} allows {target.max_time_steps} time steps; give it fewer frames, or hand the layer the "
            "whole sequence at once, so that it can take several frames a time step"
        )
