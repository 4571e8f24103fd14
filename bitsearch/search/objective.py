"""One trial: from parameters to a trained plan, its weights and its two objective values."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import torch

from bitsearch.allocate.setting import Setting
from bitsearch.allocate.trainer import EpochRecord
from bitsearch.cost import Budget
from bitsearch.layers.weights import save_weights
from bitsearch.plan import Accuracy, Baseline, BitPlan, Provenance, UniformBits, Unquantized
from bitsearch.search.progress import Progress
from bitsearch.search.run_folder import RunFolder
from bitsearch.search.study import add_trial, is_baseline, suggest
from bitsearch.search.workers import Allocate, Trained, TrainUniform, Workers
from bitsearch.version import __version__


@dataclass(frozen=True)
class Objective:
    """Callable by Optuna; returns (validation accuracy, cost).

    Every trial starts from the same full-precision network and sees the batches in the same order, so that what
    distinguishes two trials is their allocation.
    """

    folder: RunFolder
    setting: Setting
    budgets: Sequence[Budget]
    workers: Workers
    progress: Progress

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        """Run the trial, write its plan and weights, and score it; plans left on the way get trials of their own."""
        space = self.setting.space
        epochs = space.training.epochs

        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log({"trial": trial.number, **vars(record)})
            self.progress.epoch(record)

        on_the_way: list[Trained] = []
        if is_baseline(trial):
            bits = UniformBits.model_validate(trial.user_attrs["bits"])
            method, label = "uniform", f"uniform {bits}"
            self.progress.trial(label, epochs)
            last = self.workers.do(TrainUniform(bits), on_epoch)
        else:
            given = {"method": trial.user_attrs["method"]} if "method" in trial.user_attrs else {}
            knobs = space.allocation_with(suggest(trial, space) | given)
            method, label = knobs.method, f"{knobs.method} {trial.number}"
            self.progress.trial(label, epochs)
            draw = trial.user_attrs.get("draw", trial.number)
            *on_the_way, last = self.workers.do(Allocate(knobs, draw), on_epoch)
        result = self._write(last, trial.number, method)
        for metric, excess in self._excess(result).items():
            trial.set_constraint(metric, excess)
        trial.set_user_attr("costs", result.costs)
        trial.set_user_attr("seconds", last.seconds)
        for trained in on_the_way:
            plan = self._plan(trained, None, method)
            attributes = {"part_of": trial.number, "costs": plan.costs, "seconds": trained.seconds}
            number = add_trial(trial, self._values(plan), self._excess(plan), attributes)
            self._write(trained, number, method)
        accuracy, cost = self._values(result)
        self.progress.trial_done(label, accuracy, cost)
        return accuracy, cost

    def _values(self, plan: BitPlan) -> tuple[float, float]:
        assert plan.accuracy.validation is not None
        return plan.accuracy.validation, plan.costs[self.folder.settings.metric]

    def _excess(self, plan: BitPlan) -> dict[str, float]:
        """By metric, how far the cost is above the tightest limit; below zero within it."""
        limits = self.folder.settings.limits
        return {metric: plan.costs[metric] - budget.limit for metric, budget in limits.items()}

    def _write(self, trained: Trained, trial: int, method: str) -> BitPlan:
        plan = self._plan(trained, trial, method)
        layers, model = plan.layers, self.setting.model
        self.folder.append_log(
            {
                "trial": trial,
                "phase": "measured",
                "firing_rates": {name: round(rate, 6) for name, rate in trained.activity.firing.items()},
                "layer_costs": {
                    name: model.layer_costs(name, layers, trained.activity)
                    for name, metric in model.metrics.items()
                    if metric.additive
                },
            }
        )
        save_weights(trained.network.network, self.folder.weights_file(trial))
        self.folder.write_plan(plan)
        return plan

    def _plan(self, trained: Trained, trial: int | None, method: str) -> BitPlan:
        settings, space = self.folder.settings, self.setting.space
        layers, model = trained.network.layer_plans, self.setting.model
        costs = model.costs(layers, trained.activity)
        return BitPlan(
            space=space.name,
            network=space.network,
            target=model.target.name,
            budget=tuple(budget.outcome(costs[budget.metric]) for budget in self.budgets),
            baseline=Baseline(**space.baseline.model_dump(), costs=settings.baseline_costs),
            layers=layers,
            unquantized={
                layer.name: Unquantized(reason=layer.fixed or "", weights=layer.weights, macs=layer.macs)
                for layer in model.unquantized
            },
            costs=costs,
            accuracy=Accuracy(validation=trained.accuracy, soft_validation=trained.network.soft_accuracy),
            provenance=Provenance(
                bitsearch=__version__,
                torch=torch.__version__,
                seed=settings.seed,
                command=settings.command,
                trial=trial,
                method=method,
                split_seed=space.split_seed,
            ),
        )
