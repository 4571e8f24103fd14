"""A budget that the first layer's fixed bits leave no room for: which of them have to fall for it to be met."""

import shlex
from collections.abc import Callable, Mapping, Sequence

from bitsearch.choices import Choices, Number, Span
from bitsearch.cost.model import CostModel
from bitsearch.cost.rules import AllowedBits
from bitsearch.layer_rules import LayerRule
from bitsearch.plan import LayerPlan

ORIGIN = "first_layer"
"""What a number of a layer comes from that is relaxed here: nobody named the layer, and no chip asks for it."""
IN_TURN: tuple[tuple[Number, ...], ...] = (
    ("spike_bits",),
    ("weight_bits",),
    ("weight_bits", "spike_bits"),
    ("weight_bits", "spike_bits", "time_steps"),
)
"""The first of these that suffices is relaxed; a weight's bits are the last to lose any."""


def relaxation(
    model: CostModel,
    rules: AllowedBits,
    fits: Callable[[Mapping[str, LayerPlan]], bool],
    choices: Choices | None = None,
) -> tuple[LayerRule, ...]:
    """The layer rules that let fixed bits of the first layer fall, as few kinds of them as suffice; none if none do.

    Args:
        model: costs of the network.
        rules: what its layers may get.
        fits: True of a plan that meets every budget; the cheapest ones are tried.
        choices: what the numbers that fall may be, besides what they are now.
    """
    smallest, choices = rules.smallest(model), choices or Choices()
    fixed: dict[str, dict[str, Span]] = {
        layer.name: {
            number: _falling(getattr(rules.choices[layer.name], number).high, getattr(choices, number))
            for number, origin in rules.origins[layer.name].items()
            if origin == ORIGIN
        }
        for layer in model.layers
        if layer.first
    }
    for numbers in IN_TURN:
        relaxed: dict[str, dict[str, Span]] = {
            name: {number: span for number, span in spans.items() if number in numbers} for name, spans in fixed.items()
        }
        cheapest = {name: _cheapest(layer, relaxed.get(name, {})) for name, layer in smallest.items()}
        if cheapest != smallest and fits(cheapest):
            return tuple(LayerRule.model_validate({"match": name, **spans}) for name, spans in relaxed.items() if spans)
    return ()


def options_of(relaxed: Sequence[LayerRule]) -> str:
    """The rules as one types them."""
    texts = [
        f"{rule.match[0]}:{number}={list(span.only) if span.only else f'{{low={span.low},high={span.high}}}'}"
        for rule in relaxed
        for number, span in rule.numbers.items()
    ]
    return " ".join(f"--layer {shlex.quote(text)}" for text in texts)


def _falling(fixed: int, choices: Span) -> Span:
    """The choices below what is fixed, and that."""
    values = [*(value for value in choices.values if value < fixed), fixed]
    is_whole = values == list(range(values[0], fixed + 1))
    return Span(low=values[0], high=fixed) if is_whole else Span.model_validate(values)


def _cheapest(layer: LayerPlan, spans: Mapping[str, Span]) -> LayerPlan:
    least = {number: span.low for number, span in spans.items()}
    time_steps, spike_bits = least.get("time_steps", layer.time_steps), least.get("spike_bits", layer.spike_bits[0])
    return layer.with_bits(least.get("weight_bits", layer.weight_bits), (spike_bits,) * time_steps)
