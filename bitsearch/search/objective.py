"""One trial: from parameters to a trained plan, its weights and its two objective values."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna
import torch
from torch import nn

from bitsearch.allocate.evaluation import evaluate_with_activity
from bitsearch.allocate.method import Problem
from bitsearch.allocate.methods import METHODS
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.setting import Setting
from bitsearch.allocate.trainer import EpochRecord
from bitsearch.allocate.uniform import train_fixed
from bitsearch.cost import Budget
from bitsearch.layers.weights import save_weights
from bitsearch.plan import Accuracy, Baseline, BitPlan, Provenance, UniformBits, Unquantized
from bitsearch.search.progress import Progress
from bitsearch.search.run_folder import RunFolder
from bitsearch.search.study import add_trial, is_baseline, suggest
from bitsearch.space import Allocation
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
    network: nn.Module
    progress: Progress

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        """Run the trial, write its plan and weights, and score it; plans left on the way get trials of their own."""
        space = self.setting.space
        if is_baseline(trial):
            bits = UniformBits.model_validate(trial.user_attrs["bits"])
            method, label = "uniform", f"uniform {bits}"
            networks = self._baseline(bits, self._problem(trial, space.allocation))
        else:
            given = {"method": trial.user_attrs["method"]} if "method" in trial.user_attrs else {}
            problem = self._problem(trial, space.allocation_with(suggest(trial, space) | given))
            method, label = problem.knobs.method, f"{problem.knobs.method} {trial.number}"
            networks = METHODS[problem.knobs.method](problem)
        self.progress.trial(label, space.training.epochs)
        started = time.perf_counter()
        *on_the_way, (last, seconds) = [(network, time.perf_counter() - started) for network in networks]
        result = self._write(last, trial.number, method)
        for metric, excess in self._excess(result).items():
            trial.set_constraint(metric, excess)
        trial.set_user_attr("costs", result.costs)
        trial.set_user_attr("seconds", seconds)
        for network, seconds in on_the_way:
            plan = self._plan(network, trial.number, method)
            attributes = {"part_of": trial.number, "costs": plan.costs, "seconds": seconds}
            number = add_trial(trial, self._values(plan), self._excess(plan), attributes)
            self._write(network, number, method)
        accuracy, cost = self._values(result)
        self.progress.trial_done(label, accuracy, cost)
        return accuracy, cost

    def _problem(self, trial: optuna.Trial, knobs: Allocation) -> Problem:
        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log({"trial": trial.number, **vars(record)})
            self.progress.epoch(record)

        setting = self.setting
        return Problem(
            self.network,
            setting.model,
            setting.rules,
            setting.splits,
            setting.space,
            knobs,
            self.budgets,
            seed=self.folder.settings.seed,
            draw=trial.user_attrs.get("draw", trial.number),
            on_epoch=on_epoch,
        )

    def _baseline(self, bits: UniformBits, problem: Problem) -> Iterator[QuantizedNetwork]:
        yield train_fixed(
            problem.network,
            problem.model,
            problem.rules,
            problem.plan(bits),
            problem.splits,
            problem.space,
            seed=problem.seed,
            on_epoch=problem.on_epoch,
        )

    def _values(self, plan: BitPlan) -> tuple[float, float]:
        assert plan.accuracy.validation is not None
        return plan.accuracy.validation, plan.costs[self.folder.settings.metric]

    def _excess(self, plan: BitPlan) -> dict[str, float]:
        """By metric, how far the cost is above the tightest limit; below zero within it."""
        limits = self.folder.settings.limits
        return {metric: plan.costs[metric] - budget.limit for metric, budget in limits.items()}

    def _write(self, quantized: QuantizedNetwork, trial: int, method: str) -> BitPlan:
        plan = self._plan(quantized, trial, method)
        save_weights(quantized.network, self.folder.weights_file(trial))
        self.folder.write_plan(plan)
        return plan

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
            accuracy=Accuracy(validation=accuracy, soft_validation=quantized.soft_accuracy),
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
