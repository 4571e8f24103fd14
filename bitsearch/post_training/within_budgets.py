"""A calibrated plan within budgets: solved from the scores, calibrated, and its spikes counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from bitsearch.allocation.methods.finish import MAX_CORRECTIONS
from bitsearch.calibrate import CalibrationStep, OnStep
from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.post_training.calibrator import Calibrator
from bitsearch.post_training.solving import Layers, ScoredNetwork
from bitsearch.train.evaluate import score_row_with_activity
from bitsearch.train.task import Task

UNIFORM_CANDIDATES = 3
"""Uniform plans of a budget, those with the least predicted loss, of which one is reconstructed: whichever comes
nearest to the float network before."""


@dataclass(frozen=True)
class CalibratedPlan:
    """A calibrated network, and what was measured of it on the validation split."""

    network: QuantizedNetwork
    steps: list[CalibrationStep]
    row: Tensor
    """As of :func:`bitsearch.train.evaluate.score_row`."""
    activity: SpikeStatistics


@dataclass(frozen=True)
class PlansWithinBudgets:
    """Of one scored network, any number of them.

    Args:
        task: of the network.
        scored: the network's scores.
        calibrator: of its plans.
    """

    task: Task
    scored: ScoredNetwork
    calibrator: Calibrator

    def best(
        self,
        budgets: Sequence[Budget],
        activity: SpikeStatistics,
        *,
        uniform: bool = False,
        begins: Callable[[Layers], bool] = lambda layers: True,
        on_step: OnStep = lambda step: None,
    ) -> CalibratedPlan | None:
        """The best plan within the budgets, or the best uniform one; None where there is none, or it does not begin.

        A budget that depends on how often neurons fire is met as counted on the validation split: where it is not, the
        next attempt aims lower.

        Args:
            budgets: to be met.
            activity: spike counts that the first attempt goes by.
            uniform: whether all layers get the same bits.
            begins: asked before a plan is reconstructed.
            on_step: told after every step of its calibration.
        """
        task, scored, aims = self.task, self.scored, list(budgets)
        for _ in range(1 + MAX_CORRECTIONS):
            plans = (
                scored.best_uniform(aims, activity, UNIFORM_CANDIDATES) if uniform else [scored.best(aims, activity)]
            )
            if not plans:
                return None
            nearest = self.calibrator.nearest(plans)
            layers = nearest.network.layer_plans
            if not begins(layers):
                return None
            for step in nearest.steps:
                on_step(step)
            calibrated = self.calibrator.reconstructed(nearest, on_step)
            row, activity = score_row_with_activity(
                calibrated.network, task.splits.validation, task.space.training.at_once, task.learning_task
            )
            if all(budget.met_by(scored.model, layers, activity) for budget in budgets):
                break
            aims = scored.lowered(aims, activity)
        return CalibratedPlan(calibrated.network, calibrated.steps, row, activity)
