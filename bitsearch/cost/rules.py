"""The bits that each layer may get, by the search space's choices and the hardware target's together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.model import CostModel
from bitsearch.cost.target import LayerRule, Target
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits

_NUMBERS = ("weight_bits", "spike_bits", "time_steps")


@dataclass(frozen=True)
class AllowedBits:
    """The choices of every layer that gets bits, in the order they run; a fixed layer has one value of each."""

    choices: Mapping[str, Choices]
    searched: tuple[str, ...]
    """The layers with something to choose."""
    default_choices: Choices
    """Of the layers that no rule singles out."""

    @classmethod
    def make(cls, model: CostModel, choices: Choices, first_layer: FirstLayer) -> "AllowedBits":
        """The rules for a network.

        Every layer gets ``choices`` as far as the model's hardware target allows them, and no more time steps than its
        input has frames. The first layer keeps its own fixed bits; what the target requires of the first and the last
        layer stands above everything.

        Raises:
            InputError: the search space and the target have nothing in common.
        """
        target = model.target
        common = _common(choices, target)
        found = {layer.name: _within_frames(common, layer) for layer in model.layers}
        searched = [layer.name for layer in model.layers if not layer.first]
        last = model.layers[-1].name
        if target.last_layer is not None:
            found[last] = _required(found[last], target.last_layer)
        for layer in model.layers:
            if layer.first:
                own = {name: (getattr(model.first_bits(layer, first_layer), name),) for name in _NUMBERS}
                found[layer.name] = _required(Choices.model_validate(own), target.first_layer)
        return cls(found, tuple(name for name in searched if _open(found[name])), common)

    def nearest(
        self, model: CostModel, bits: UniformBits, *, granularity: str, decay: float | None = None
    ) -> dict[str, LayerPlan]:
        """On every layer, what it may get that is nearest to ``bits``."""
        plan = model.uniform(bits, None, granularity=granularity, decay=decay)
        return {name: _uniform(layer, self.choices[name].nearest(bits)) for name, layer in plan.items()}

    def smallest(self, model: CostModel) -> dict[str, LayerPlan]:
        """The cheapest plan there is, in every metric."""
        plan = model.uniform(UniformBits(weight_bits=1, spike_bits=1, time_steps=1), None)
        return {name: _uniform(layer, self.choices[name].smallest) for name, layer in plan.items()}

    def contains(self, plan: Mapping[str, LayerPlan]) -> bool:
        """True if every layer's bits are among its choices."""
        return all(
            layer.weight_bits in self.choices[name].weight_bits
            and layer.time_steps in self.choices[name].time_steps
            and all(bits in self.choices[name].spike_bits for bits in layer.spike_bits)
            for name, layer in plan.items()
        )


def check_granularity(granularity: str, target: Target) -> None:
    """Raise InputError unless the target has such weight step sizes."""
    if granularity not in target.granularity:
        raise InputError(
            f"granularity is {granularity!r}, but the hardware target {target.name!r} has one weight step size a "
            f"{' or a '.join(target.granularity)}; set allocation.quantizer.granularity to that"
        )


def check_first_layer(first_layer: FirstLayer, target: Target) -> None:
    """Raise InputError if the target supports the first layer's bits neither in general nor by a first-layer rule."""
    for name, values in _allowed(target).items():
        own = getattr(first_layer.bits(), name)
        if getattr(target.first_layer, name, None) is None and own not in values:
            raise InputError(
                f"first_layer.{name} is {own}, but the hardware target {target.name!r} allows "
                f"{_words(tuple(values))}; set it to one of these, or give the target a [first_layer] of its own"
            )


def _allowed(target: Target) -> dict[str, Sequence[int]]:
    return {
        "weight_bits": target.weight_bits,
        "spike_bits": target.spike_bits,
        "time_steps": range(1, target.max_time_steps + 1),
    }


def _common(choices: Choices, target: Target) -> Choices:
    spans = {}
    for name, values in _allowed(target).items():
        span: Span = getattr(choices, name)
        spans[name] = span.within(values)
        if spans[name] is None:
            raise InputError(
                f"choices.{name} of the search space, {_words(span.values)}, are none of the hardware target "
                f"{target.name!r}, which allows {_words(tuple(values))}; widen the choices, or take another target"
            )
    return Choices.model_validate(spans)


def _within_frames(choices: Choices, layer: LayerGeometry) -> Choices:
    if layer.frames is None:
        return choices
    span = choices.time_steps.within(range(1, layer.frames + 1))
    if span is None:
        raise InputError(
            f"choices.time_steps are {_words(choices.time_steps.values)}, but layer {layer.name!r} has an input of "
            f"{layer.frames} frames; allow at most that many time steps"
        )
    return choices.model_copy(update={"time_steps": span})


def _required(choices: Choices, rule: LayerRule | None) -> Choices:
    required = {name: getattr(rule, name) for name in _NUMBERS if getattr(rule, name, None) is not None}
    return choices.model_copy(update={name: Span(low=value, high=value) for name, value in required.items()})


def _open(choices: Choices) -> bool:
    return any(len(getattr(choices, name).values) > 1 for name in _NUMBERS)


def _uniform(layer: LayerPlan, bits: UniformBits) -> LayerPlan:
    return layer.with_bits(bits.weight_bits, (bits.spike_bits,) * bits.time_steps)


def _words(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
