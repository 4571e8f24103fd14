"""The bits that each layer may get: what the search space and the hardware target leave, with layers that share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bitsearch.choices import NUMBERS, Choices, FirstLayer, Shared, Span, Tie
from bitsearch.cost.layer_choices import LayerChoices, layer_choices, listing
from bitsearch.cost.limits import check_limits
from bitsearch.cost.model import CostModel
from bitsearch.cost.ties import Groups, groups_of
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, Setting
from bitsearch.plan import LayerPlan, UniformBits


@dataclass(frozen=True)
class AllowedBits:
    """The choices of every layer with bits, in the order they run; a layer with fixed bits has one choice."""

    choices: Mapping[str, Choices]
    searched: tuple[str, ...]
    """Names of the layers with more than one choice."""
    ties: tuple[Tie, ...] = ()
    """Layers that share numbers, and have the same choices of them."""
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By layer, and by number or setting, the rule that it comes from, in words."""
    settings: Mapping[str, Mapping[Setting, str]] = field(default_factory=dict)
    """By layer, how it is quantized where a rule says it."""
    populations: Mapping[str, str] = field(default_factory=dict)
    """By layer, the one whose neurons it reads, where these are not its own: their membranes have one width."""

    @classmethod
    def make(
        cls,
        model: CostModel,
        choices: Choices,
        first_layer: FirstLayer,
        layers: Sequence[LayerRule] = (),
    ) -> "AllowedBits":
        """The allowed bits of a network's layers.

        Every layer gets the ``choices`` that the model's hardware target allows, and no more time steps than its input
        has frames. The first layer gets its fixed bits. What ``layers`` say of a layer takes the place of both, the
        last that matches it first. The target's rules for the first and the last layer take precedence; where they
        contradict ``layers``, that is an error. Layers that share a number, by the model's ties, get what all of them
        may have.

        Raises:
            InputError: the network exceeds a limit of the target's, which allows none of the search space's choices, a
                rule names no layer or contradicts another, or layers that share a number have none in common.
        """
        check_limits(model)
        allowed = layer_choices(model, choices, first_layer, layers)
        for tie in model.ties:
            _check_alike(tie, model, allowed)
        by_layer = _tied_choices({name: entry.choices for name, entry in allowed.items()}, model.ties)
        populations = {name: owner for name in by_layer if (owner := model.neurons_of(name)) != name}
        by_layer = _with_one_width(by_layer, populations)
        return cls(
            choices=by_layer,
            searched=tuple(name for name in by_layer if _has_choice(by_layer[name])),
            ties=model.ties,
            origins={name: entry.origins for name, entry in allowed.items()},
            settings={name: entry.settings for name, entry in allowed.items() if entry.settings},
            populations=populations,
        )

    @cached_property
    def membranes(self) -> dict[str, int]:
        """By layer, the width of its membranes where something says it, of several the widest."""
        return {
            name: choices.membrane_bits.high
            for name, choices in self.choices.items()
            if choices.membrane_bits is not None
        }

    @cached_property
    def _groups(self) -> dict[Shared, Groups]:
        names = list(self.choices)
        owner = {name: self.populations.get(name, name) for name in names}
        return {
            **{number: groups_of(self.ties, number, names) for number in NUMBERS},
            "membrane_bits": {name: tuple(other for other in names if owner[other] == owner[name]) for name in names},
        }

    def sharing(self, name: str, number: Shared) -> tuple[str, ...]:
        """The layers that share a number with a layer, itself included, in the order they run."""
        return self._groups[number][name]

    def membrane_of(self, name: str, layer: LayerPlan) -> int | None:
        """The width of a layer's membranes where it is chosen among several; None elsewhere."""
        return layer.membrane_bits if self.choices[name].chooses_membranes else None

    def setting(self, name: str, setting: Setting, default: str) -> str:
        """How a layer is quantized: as a rule says of it, or else the default."""
        return self.settings.get(name, {}).get(setting, default)

    def one_step(self, spike_granularity: str) -> frozenset[str]:
        """The layers with one spike step size for all time steps: as a rule says of them, or else as for all.

        Membranes of a width count in that one step size, so that it is theirs wherever a rule gives them one.
        """
        return frozenset(
            name
            for name in self.choices
            if name in self.membranes or self.setting(name, "spike_granularity", spike_granularity) == "layer"
        )

    def stepped(self, model: CostModel, spike_granularity: str) -> CostModel:
        """The costs of the same network with step sizes and membranes as rules, or else ``spike_granularity``, say."""
        return model.with_one_step(self.one_step(spike_granularity), self.membranes)

    def origin(self, name: str) -> str:
        """Which rule each of a layer's numbers comes from, and how it is quantized where one says it, in words."""
        names: dict[str, list[str]] = {}
        for field_name, origin in self.origins[name].items():
            value = self.settings.get(name, {}).get(field_name)  # type: ignore[call-overload]  # by the name of a field
            names.setdefault(origin, []).append(field_name if value is None else f"{field_name} {value!r}")
        if len(names) == 1:
            return next(iter(names))
        return "; ".join(f"{', '.join(fields)}: {origin}" for origin, fields in names.items())

    def tied(self, plan: Mapping[str, LayerPlan]) -> dict[str, LayerPlan]:
        """The plan in which layers that share a number have that of the first of them."""
        return {
            name: layer.with_bits(
                plan[self.sharing(name, "weight_bits")[0]].weight_bits,
                plan[self.sharing(name, "spike_bits")[0]].spike_bits,
            ).with_membrane(plan[self.sharing(name, "membrane_bits")[0]].membrane_bits)
            for name, layer in plan.items()
        }

    def nearest(
        self,
        model: CostModel,
        bits: UniformBits,
        *,
        granularity: str,
        step_sizes: str = "free",
        decay: float | None = None,
    ) -> dict[str, LayerPlan]:
        """The plan in which every layer has the choices that are nearest to ``bits``.

        What a rule says of a layer's granularity and step sizes takes the place of those given.
        """
        plan = model.uniform(
            bits.model_copy(update={"membrane_bits": None}),
            None,
            granularity=granularity,
            step_sizes=step_sizes,
            decay=decay,
        )
        return {
            name: self._quantized_as_ruled(name, _uniform_layer(layer, self.choices[name].nearest(bits)))
            for name, layer in plan.items()
        }

    def smallest(self, model: CostModel) -> dict[str, LayerPlan]:
        """The plan that is the cheapest one in every metric."""
        plan = model.uniform(UniformBits(weight_bits=1, spike_bits=1, time_steps=1), None)
        return {
            name: self._quantized_as_ruled(name, _uniform_layer(layer, self.choices[name].smallest))
            for name, layer in plan.items()
        }

    @property
    def maximum(self) -> UniformBits:
        """Bits to which every layer's nearest choice is the most that it may have."""
        return UniformBits(
            **{number: max(getattr(layer, number).high for layer in self.choices.values()) for number in NUMBERS}
        )

    def contains(self, plan: Mapping[str, LayerPlan]) -> bool:
        """True if every layer's bits are among its choices, and layers that share a number have the same."""
        return plan == self.tied(plan) and all(
            layer.weight_bits in self.choices[name].weight_bits
            and layer.time_steps in self.choices[name].time_steps
            and all(bits in self.choices[name].spike_bits for bits in layer.spike_bits)
            and layer.membrane_bits in (self.choices[name].membranes_at(layer.time_steps) or (layer.membrane_bits,))
            for name, layer in plan.items()
        )

    def _quantized_as_ruled(self, name: str, layer: LayerPlan) -> LayerPlan:
        settings = self.settings.get(name, {})
        changes: dict[str, str | None] = {}
        if "granularity" in settings:
            changes["granularity"] = settings["granularity"]
        if "step_sizes" in settings:
            changes["step_sizes"] = None if settings["step_sizes"] == "free" else settings["step_sizes"]
        return layer.model_copy(update=changes) if changes else layer


def _check_alike(tie: Tie, model: CostModel, allowed: Mapping[str, LayerChoices]) -> None:
    """Raise InputError where rules have one weight, or neurons that layers have in common, quantized in two ways."""
    layers = {layer.name: layer for layer in model.layers}
    for index, name in enumerate(tie.layers):
        for other in tie.layers[:index]:
            widths = [allowed[layer].choices.membrane_bits for layer in (other, name)]
            one, two = ({None} if width is None else set(width.values) for width in widths)
            if model.neurons_of(name) == model.neurons_of(other) and not one & two:
                texts = ["no width" if width is None else f"{listing(width.values)} bits" for width in widths]
                raise InputError(
                    f"layers {other!r} and {name!r} are tied ({tie.why}), and [[layers]] give their membranes "
                    f"{' and '.join(texts)}; match both"
                )
            shared: tuple[Setting, ...] = ()
            if (layers[name].weight_of or name) == (layers[other].weight_of or other):
                shared += ("granularity", "step_sizes", "quantizer")
            if model.neurons_of(name) == model.neurons_of(other):
                shared += ("spike_granularity", "step_sizes")
            for setting in shared:
                first, second = (allowed[layer].settings.get(setting) for layer in (other, name))
                if first != second:
                    values = f"{first or second!r} and the other {'none' if None in (first, second) else repr(second)}"
                    raise InputError(
                        f"layers {other!r} and {name!r} are tied ({tie.why}), and [[layers]] give one of them "
                        f"{setting} {values}; match both"
                    )


def _tied_choices(choices: dict[str, Choices], ties: Sequence[Tie]) -> dict[str, Choices]:
    """The choices of every layer, with those of a shared number that all layers which share it may have."""
    for number in NUMBERS:
        spans: dict[str, Span] = {name: getattr(layer_choices, number) for name, layer_choices in choices.items()}
        for name, group in groups_of(ties, number, list(choices)).items():
            span = spans[name]
            for other in group:
                common_span = span.within(spans[other].values)
                if common_span is None:
                    tie = next(tie for tie in ties if number in tie.share and {name, other} & set(tie.layers))
                    raise InputError(
                        f"layers {name!r} and {other!r} have one {number} (tied: {tie}), but may get "
                        f"{listing(spans[name].values)} and {listing(spans[other].values)}; give both a value in "
                        "common, by choices, layers, first_layer, or the target's rules"
                    )
                span = common_span
            choices = choices | {name: choices[name].model_copy(update={number: span})}
    return choices


def _with_one_width(choices: dict[str, Choices], populations: Mapping[str, str]) -> dict[str, Choices]:
    """The choices of every layer, with those widths of membranes that all layers which have them in common may get.

    A layer that always has one time step has the narrowest.
    """
    common: dict[str, Span] = {}
    for name, layer in choices.items():
        if layer.membrane_bits is not None:
            owner = populations.get(name, name)
            span = common.get(owner, layer.membrane_bits).within(layer.membrane_bits.values)
            assert span is not None, "checked before"
            common[owner] = span
    widths = {name: common.get(populations.get(name, name)) for name in choices}
    for name, span in widths.items():
        if span is not None and choices[name].time_steps.high == 1:
            widths[name] = Span(low=span.low, high=span.low)
    return {name: layer.model_copy(update={"membrane_bits": widths[name]}) for name, layer in choices.items()}


def _has_choice(choices: Choices) -> bool:
    return choices.chooses_membranes or any(len(getattr(choices, name).values) > 1 for name in NUMBERS)


def _uniform_layer(layer: LayerPlan, bits: UniformBits) -> LayerPlan:
    return layer.with_bits(bits.weight_bits, (bits.spike_bits,) * bits.time_steps).with_membrane(bits.membrane_bits)
