"""The bits that each layer may get: the search space's choices restricted by the hardware target and by ties."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bitsearch.choices import Choices, FirstLayer, Number, Span, Tie
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.model import CostModel
from bitsearch.cost.target import LayerRule, Target
from bitsearch.cost.ties import Groups, groups_of, ties_of
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits

MAX_LISTED_VALUES = 16
"""Values of an unbroken range that a message lists one by one."""
_BIT_FIELDS: tuple[Number, ...] = ("weight_bits", "spike_bits", "time_steps")


@dataclass(frozen=True)
class AllowedBits:
    """The choices of every layer with bits, in the order they run; a layer with fixed bits has one choice."""

    choices: Mapping[str, Choices]
    searched: tuple[str, ...]
    """Names of the layers with more than one choice."""
    default_choices: Choices
    """The choices of layers without a rule of their own."""
    ties: tuple[Tie, ...] = ()
    """Layers that share numbers, and have the same choices of them."""

    @classmethod
    def make(
        cls, model: CostModel, choices: Choices, first_layer: FirstLayer, ties: Iterable[Tie] = ()
    ) -> "AllowedBits":
        """The allowed bits of a network's layers.

        Every layer gets the ``choices`` that the model's hardware target allows, and no more time steps than its input
        has frames. The first layer gets its fixed bits. The target's rules for the first and the last layer take
        precedence. Layers that share a number, by ``ties`` or since the network itself ties them, get what all of them
        may have.

        Raises:
            InputError: the target allows none of the search space's choices, or layers that share a number have no
                choice of it in common.
        """
        target = model.target
        common_choices = _common_choices(choices, target)
        for layer in model.layers:
            _check_loop(layer, target)
        choices_by_layer = {layer.name: _within_frames(common_choices, layer) for layer in model.layers}
        names = [layer.name for layer in model.layers if not layer.first]
        last_name = model.layers[-1].name
        if target.last_layer is not None:
            choices_by_layer[last_name] = _with_rule(choices_by_layer[last_name], target.last_layer)
        for layer in model.layers:
            if layer.first:
                first_bits = {name: (getattr(model.first_bits(layer, first_layer), name),) for name in _BIT_FIELDS}
                choices_by_layer[layer.name] = _with_rule(Choices.model_validate(first_bits), target.first_layer)
        ties = (*ties_of(model.layers), *ties)
        choices_by_layer = _tied_choices(choices_by_layer, ties)
        searched = tuple(name for name in names if _has_choice(choices_by_layer[name]))
        return cls(choices_by_layer, searched, common_choices, ties)

    @cached_property
    def _groups(self) -> dict[Number, Groups]:
        return {number: groups_of(self.ties, number, list(self.choices)) for number in _BIT_FIELDS}

    def sharing(self, name: str, number: Number) -> tuple[str, ...]:
        """The layers that share a number with a layer, itself included, in the order they run."""
        return self._groups[number][name]

    def tied(self, plan: Mapping[str, LayerPlan]) -> dict[str, LayerPlan]:
        """The plan in which layers that share a number have that of the first of them."""
        return {
            name: layer.with_bits(
                plan[self.sharing(name, "weight_bits")[0]].weight_bits,
                plan[self.sharing(name, "spike_bits")[0]].spike_bits,
            )
            for name, layer in plan.items()
        }

    def nearest(
        self,
        model: CostModel,
        bits: UniformBits,
        *,
        granularity: str,
        spike_granularity: str = "step",
        decay: float | None = None,
    ) -> dict[str, LayerPlan]:
        """The plan in which every layer has the choices that are nearest to ``bits``."""
        plan = model.uniform(bits, None, granularity=granularity, spike_granularity=spike_granularity, decay=decay)
        return {name: _uniform_layer(layer, self.choices[name].nearest(bits)) for name, layer in plan.items()}

    def smallest(self, model: CostModel) -> dict[str, LayerPlan]:
        """The plan that is the cheapest one in every metric."""
        plan = model.uniform(UniformBits(weight_bits=1, spike_bits=1, time_steps=1), None)
        return {name: _uniform_layer(layer, self.choices[name].smallest) for name, layer in plan.items()}

    def contains(self, plan: Mapping[str, LayerPlan]) -> bool:
        """True if every layer's bits are among its choices, and layers that share a number have the same."""
        return plan == self.tied(plan) and all(
            layer.weight_bits in self.choices[name].weight_bits
            and layer.time_steps in self.choices[name].time_steps
            and all(bits in self.choices[name].spike_bits for bits in layer.spike_bits)
            for name, layer in plan.items()
        )


def check_granularity(granularity: str, target: Target) -> None:
    """Raise InputError unless the target supports weight step sizes of this granularity."""
    if granularity not in target.granularity:
        raise InputError(
            f"granularity is {granularity!r}, but the hardware target {target.name!r} has one weight step size a "
            f"{' or a '.join(target.granularity)}; set allocation.quantizer.granularity to that"
        )


def check_first_layer(first_layer: FirstLayer, target: Target) -> None:
    """Raise InputError if the target supports the first layer's bits neither in general nor by a first-layer rule."""
    for name, values in _target_values(target).items():
        value = getattr(first_layer.bits(), name)
        if getattr(target.first_layer, name, None) is None and value not in values:
            raise InputError(
                f"first_layer.{name} is {value}, but the hardware target {target.name!r} allows "
                f"{_listing(values)}; set it to one of these, or give the target a [first_layer] of its own"
            )


def _target_values(target: Target) -> dict[str, Sequence[int]]:
    return {
        "weight_bits": target.weight_bits,
        "spike_bits": target.spike_bits,
        "time_steps": range(1, target.max_time_steps + 1),
    }


def _common_choices(choices: Choices, target: Target) -> Choices:
    spans = {}
    for name, values in _target_values(target).items():
        span: Span = getattr(choices, name)
        spans[name] = span.within(values)
        if spans[name] is None:
            raise InputError(
                f"choices.{name} of the search space, {_listing(span.values)}, are none of the hardware target "
                f"{target.name!r}, which allows {_listing(values)}; widen the choices, or take another target"
            )
    return Choices.model_validate(spans)


def _check_loop(layer: LayerGeometry, target: Target) -> None:
    """Raise InputError if the network's own loop takes more steps than the target has."""
    if layer.loop == "frames" and layer.frames is not None and layer.frames > target.max_time_steps:
        raise InputError(
            f"the network calls layer {layer.name!r} once a frame, for {layer.frames} frames, but the hardware target "
            f"{target.name!r} allows {target.max_time_steps} time steps; give it fewer frames, or hand the layer the "
            "whole sequence at once, so that it can take several frames a time step"
        )


def _within_frames(choices: Choices, layer: LayerGeometry) -> Choices:
    if layer.frames is None:
        return choices
    if layer.loop == "frames":
        # The network's own loop takes a step a frame.
        return choices.model_copy(update={"time_steps": Span(low=layer.frames, high=layer.frames)})
    span = choices.time_steps.within(range(1, layer.frames + 1))
    if span is None:
        raise InputError(
            f"choices.time_steps are {_listing(choices.time_steps.values)}, but layer {layer.name!r} has an input of "
            f"{layer.frames} frames; allow at most that many time steps"
        )
    return choices.model_copy(update={"time_steps": span})


def _with_rule(choices: Choices, rule: LayerRule | None) -> Choices:
    fixed_values = {name: getattr(rule, name) for name in _BIT_FIELDS if getattr(rule, name, None) is not None}
    return choices.model_copy(update={name: Span(low=value, high=value) for name, value in fixed_values.items()})


def _tied_choices(choices: dict[str, Choices], ties: Sequence[Tie]) -> dict[str, Choices]:
    """The choices of every layer, with those of a shared number that all layers which share it may have."""
    for number in _BIT_FIELDS:
        spans: dict[str, Span] = {name: getattr(layer_choices, number) for name, layer_choices in choices.items()}
        for name, group in groups_of(ties, number, list(choices)).items():
            span = spans[name]
            for other in group:
                common_span = span.within(spans[other].values)
                if common_span is None:
                    tie = next(tie for tie in ties if number in tie.share and {name, other} & set(tie.layers))
                    raise InputError(
                        f"layers {name!r} and {other!r} have one {number} (tied: {tie}), but may get "
                        f"{_listing(spans[name].values)} and {_listing(spans[other].values)}; give both a value in "
                        "common, by choices, first_layer, or the target's rules"
                    )
                span = common_span
            choices = choices | {name: choices[name].model_copy(update={number: span})}
    return choices


def _has_choice(choices: Choices) -> bool:
    return any(len(getattr(choices, name).values) > 1 for name in _BIT_FIELDS)


def _uniform_layer(layer: LayerPlan, bits: UniformBits) -> LayerPlan:
    return layer.with_bits(bits.weight_bits, (bits.spike_bits,) * bits.time_steps)


def _listing(values: Sequence[int]) -> str:
    if len(values) > MAX_LISTED_VALUES and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]}, …, {values[-1]}"
    return ", ".join(str(value) for value in values)
