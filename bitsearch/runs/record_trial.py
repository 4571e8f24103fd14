"""The plan of a trial whose network is ready, and its files in the run folder."""

from collections.abc import Sequence

from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.weights import save_weights
from bitsearch.plan import BitPlan, BudgetOutcome
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.plan_record import plan_record
from bitsearch.score import measured
from bitsearch.train.task import Task


def trial_plan(
    folder: RunFolder,
    task: Task,
    budgets: Sequence[Budget],
    network: QuantizedNetwork,
    score: float,
    activity: SpikeStatistics,
    *,
    trial: int | None,
    method: str,
    goal: Sequence[BudgetOutcome] = (),
) -> BitPlan:
    """The plan of a network and what was measured of it on the validation split.

    Args:
        folder: of the run, whose settings say the rest.
        task: of the run.
        budgets: that the plan is judged by.
        network: with its bits fixed.
        score: of the network.
        activity: its spike counts.
        trial: its number, if it has one.
        method: that found the bits.
        goal: outcome of the run's accuracy goal, where there is one.
    """
    settings, model = folder.settings, task.model
    layers = network.layer_plans
    costs = model.costs(layers, activity)
    plan = plan_record(
        task.space,
        model,
        layers,
        costs,
        [*(budget.outcome(costs[budget.metric]) for budget in budgets), *goal],
        baseline_costs=settings.baseline_costs,
        seed=settings.seed,
        command=settings.command,
        method=method,
        trial=trial,
    )
    return plan.with_measured(
        measured(task.learning_task.score, validation=score, soft_validation=network.soft_accuracy)
    )


def record_trial(
    folder: RunFolder, task: Task, plan: BitPlan, network: QuantizedNetwork, activity: SpikeStatistics
) -> None:
    """Write a trial's weights, its plan, and what each of its layers costs."""
    trial, layers, model = plan.provenance.trial, plan.layers, task.model
    assert trial is not None
    folder.append_log(
        {
            "event": "measured",
            "trial": trial,
            "phase": "measured",
            "firing_rates": {name: round(rate, 6) for name, rate in activity.firing_rate.items()},
            "layer_costs": {
                name: model.layer_costs(name, layers, activity)
                for name, metric in model.metrics.items()
                if metric.additive
            },
        }
    )
    save_weights(network.network, folder.weights_file(trial))
    folder.write_plan(plan)
