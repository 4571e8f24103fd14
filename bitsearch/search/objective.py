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
from bitsearch.search.study import method_of, suggest
from bitsearch.search.workers import TrainAdaptive, Trained, TrainUniform, Workers
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
        """Run the trial, write its plan and weights, and score it."""
        settings, space = self.folder.settings, self.setting.space
        method = method_of(trial)
        epochs = space.training.epochs

        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log({"trial": trial.number, **vars(record)})
            self.progress.epoch(record)

        if method == "uniform":
            bits = UniformBits.model_validate(trial.user_attrs["bits"])
            label = f"uniform {bits}"
            self.progress.trial(label, epochs)
            trained = self.workers.do(TrainUniform(bits), on_epoch)
        else:
            label = f"adaptive {trial.number}"
            self.progress.trial(label, epochs)
            trained = self.workers.do(TrainAdaptive(space.allocation_with(suggest(trial, space))), on_epoch)
        result = self._plan(trained, trial.number, method)
        cost, accuracy = result.costs[settings.metric], result.accuracy.validation
        assert accuracy is not None
        for metric, budget in settings.limits.items():
            trial.set_constraint(metric, result.costs[metric] - budget.limit)
        trial.set_user_attr("costs", result.costs)
        save_weights(trained.network.network, self.folder.weights_file(trial.number))
        self.folder.write_plan(result)
        self.progress.trial_done(label, accuracy, cost)
        return accuracy, cost

    def _plan(self, trained: Trained, trial: int, method: str) -> BitPlan:
        settings, space = self.folder.settings, self.setting.space
        layers, model = trained.network.layer_plans, self.setting.model
        costs = model.costs(layers, trained.activity)
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
            accuracy=Accuracy(validation=trained.accuracy),
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
