"""One trial: from parameters to a trained plan, its weights and its two objective values."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import torch
from torch import nn

from bitsearch.allocate.adaptive import allocate_adaptively
from bitsearch.allocate.checkpoint import Checkpoint
from bitsearch.allocate.evaluation import evaluate_with_activity
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.setting import Setting
from bitsearch.allocate.trainer import EpochRecord
from bitsearch.allocate.uniform import train_fixed
from bitsearch.cost import Budget
from bitsearch.layers.weights import save_weights
from bitsearch.plan import Accuracy, Baseline, BitPlan, Provenance, Unquantized
from bitsearch.search.artifacts import Artifacts
from bitsearch.search.interruption import Stop
from bitsearch.search.progress import Progress
from bitsearch.search.run_folder import RunFolder
from bitsearch.search.sampler import suggest
from bitsearch.search.study import Turn
from bitsearch.version import __version__


@dataclass(frozen=True)
class Objective:
    """Runs a trial; returns (validation accuracy, cost).

    Every trial starts from the same full-precision network and sees the batches in the same order, so that what
    distinguishes two trials is their allocation.
    """

    folder: RunFolder
    setting: Setting
    budgets: Sequence[Budget]
    network: nn.Module
    progress: Progress
    stop: Stop
    artifacts: Artifacts | None = None
    """Where others look for the plan and the weights."""

    def __call__(self, trial: optuna.Trial, turn: Turn) -> tuple[float, float]:
        """Run the trial, or go on with it, write its plan and weights, and score it."""
        settings, space, model = self.folder.settings, self.setting.space, self.setting.model
        epochs = space.training.epochs

        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log({"event": "epoch", "trial": trial.number, **vars(record)})
            self.progress.epoch(record)

        checkpoint = Checkpoint(self.folder.checkpoint_file(turn.origin), self.stop.check)
        if checkpoint.saved_phase >= 0:
            self.progress.note(f"trial {trial.number} goes on from its last epoch")
        self.folder.append_log(
            {"event": "started", "trial": trial.number, "method": turn.method, "resumed": checkpoint.saved_phase >= 0}
        )

        if turn.bits is not None:
            label = f"uniform {turn.bits}"
            self.progress.trial(label, epochs)
            rules = self.setting.rules
            plan = rules.nearest(
                model, turn.bits, granularity=space.allocation.granularity, decay=space.allocation.decay
            )
            quantized = train_fixed(
                self.network,
                model,
                rules,
                plan,
                self.setting.splits,
                space,
                seed=settings.seed,
                on_epoch=on_epoch,
                checkpoint=checkpoint,
            )
        else:
            label = f"adaptive {trial.number}"
            self.progress.trial(label, epochs)
            knobs = space.allocation_with(suggest(trial, space))
            quantized = allocate_adaptively(
                self.network,
                model,
                self.setting.rules,
                self.setting.splits,
                space,
                knobs,
                self.budgets,
                seed=settings.seed,
                on_epoch=on_epoch,
                checkpoint=checkpoint,
            )
        result = self._plan(quantized, trial.number, turn.method)
        cost, accuracy = result.costs[settings.metric], result.accuracy.validation
        assert accuracy is not None
        with warnings.catch_warnings():
            # A trial that was killed after this point sets them again, to the same values.
            warnings.filterwarnings("ignore", "The constraint value is ignored")
            for metric, budget in settings.limits.items():
                trial.set_constraint(metric, result.costs[metric] - budget.limit)
        trial.set_user_attr("costs", result.costs)
        save_weights(quantized.network, self.folder.weights_file(trial.number))
        self.folder.write_plan(result)
        if self.artifacts is not None:
            files = self.folder.plan_file(trial.number), self.folder.weights_file(trial.number)
            self.artifacts.upload(trial, *files)
        self.folder.append_log(
            {"event": "finished", "trial": trial.number, "validation_accuracy": accuracy, settings.metric: cost}
        )
        self.progress.trial_done(label, accuracy, cost)
        return accuracy, cost

    def _plan(self, quantized: QuantizedNetwork, trial: int, method: str) -> BitPlan:
        settings, space = self.folder.settings, self.setting.space
        validation = self.setting.splits.validation
        accuracy, activity = evaluate_with_activity(quantized, validation, space.training.batch_size)
        layers, model = quantized.layer_plans, self.setting.model
        costs = model.costs(layers, activity)
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
            accuracy=Accuracy(validation=accuracy),
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
