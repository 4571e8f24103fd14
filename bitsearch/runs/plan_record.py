"""The record of a plan that a run has made: what it is for, what it costs, and where it comes from."""

from collections.abc import Mapping, Sequence

import torch

from bitsearch.cost import CostModel
from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance, Unquantized
from bitsearch.space import SearchSpace
from bitsearch.version import __version__


def plan_record(
    space: SearchSpace,
    model: CostModel,
    layers: Mapping[str, LayerPlan],
    costs: Mapping[str, float],
    outcomes: Sequence[BudgetOutcome],
    *,
    baseline_costs: Mapping[str, float],
    seed: int,
    command: str,
    method: str,
    trial: int | None = None,
) -> BitPlan:
    """A plan, without anything measured of it.

    Args:
        space: of the run.
        model: of the network's costs on the plan's hardware target.
        layers: the plan's bits.
        costs: of these.
        outcomes: of the budgets that the plan is judged by.
        baseline_costs: of the space's baseline.
        seed: of the run.
        command: that made the plan.
        method: that found the bits.
        trial: its number in the run, if it has one.
    """
    return BitPlan(
        space=space.name,
        network=space.network,
        target=model.target.name,
        budget=tuple(outcomes),
        baseline=Baseline(**space.baseline.model_dump(), costs=dict(baseline_costs)),
        layers=dict(layers),
        unquantized={
            layer.name: Unquantized(reason=layer.fixed_reason or "", weights=layer.weights, macs=layer.macs)
            for layer in model.unquantized
        },
        costs=dict(costs),
        provenance=Provenance(
            bitsearch=__version__,
            torch=torch.__version__,
            seed=seed,
            command=command,
            trial=trial,
            method=method,
            split_seed=space.split_seed,
        ),
    )
