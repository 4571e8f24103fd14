"""Uniform allocation: the same bits for every searched layer. The baseline that any other method has to beat."""

from collections.abc import Mapping
from itertools import product

from torch import nn

from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.trainer import OnEpoch, train
from bitsearch.cost import Budget, CostModel
from bitsearch.data import Splits
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace

WEIGHT_TOLERANCE = 0.25
"""Weight error counts this much of spike error in the ranking: weights recover by training, spikes do not."""


def uniform_plans(model: CostModel, space: SearchSpace, budget: Budget, limit: int) -> list[UniformBits]:
    """The best uniform plans at a budget, at most ``limit``, best first by their number of levels.

    Candidates are the feasible (w, s, T) of the grid to which nothing can be added without breaking the budget.
    """
    choices = space.choices
    spans = (choices.weight_bits, choices.spike_bits, choices.time_steps)
    grid = list(product(*(range(span.low, span.high + 1) for span in spans)))

    def bits(point: tuple[int, ...]) -> UniformBits:
        return UniformBits(weight_bits=point[0], spike_bits=point[1], time_steps=point[2])

    feasible = {point for point in grid if budget.met_by(model, model.uniform(bits(point), space.first_layer))}
    maximal = [
        point
        for point in feasible
        if not any((*point[:axis], point[axis] + 1, *point[axis + 1 :]) in feasible for axis in range(3))
    ]

    def error(point: tuple[int, ...]) -> float:
        weight_bits, spike_bits, time_steps = point
        return WEIGHT_TOLERANCE * 4.0**-weight_bits + float(time_steps * 2**spike_bits) ** -2

    return [bits(point) for point in sorted(maximal, key=lambda point: (error(point), point))[:limit]]


def train_fixed(
    network: nn.Module,
    model: CostModel,
    plan: Mapping[str, LayerPlan],
    splits: Splits,
    space: SearchSpace,
    *,
    seed: int,
    phase: str = "uniform",
    on_epoch: OnEpoch | None = None,
) -> QuantizedNetwork:
    """Train a fixed plan for as many epochs as any other trial gets; ``network`` (full precision) is left as it is."""
    quantized = QuantizedNetwork(convert(network, plan), model, space.choices, space.first_layer, space.baseline)
    train(quantized, splits, space.training, epochs=space.training.epochs, seed=seed, phase=phase, on_epoch=on_epoch)
    return quantized
