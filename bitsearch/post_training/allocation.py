"""What an allocation does in its run folder, a trial after the other; done again, it goes on after the last one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.calibrate import STEPS, CalibrationSamples, CalibrationStep
from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.data import Splits
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import BitPlan
from bitsearch.post_training.calibrator import Calibrator
from bitsearch.post_training.fine_tuning import TrainOn, best_of_every_budget
from bitsearch.post_training.scores import ScoredLoss, Scores, measure_scores, read_scores, write_scores
from bitsearch.post_training.solving import Layers, ScoredNetwork
from bitsearch.post_training.within_budgets import PlansWithinBudgets
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import score_of
from bitsearch.runs.pareto import score_column
from bitsearch.runs.plan_names import is_uniform, trial_name
from bitsearch.runs.progress import Progress, logged
from bitsearch.runs.record_trial import record_trial, trial_plan
from bitsearch.runs.rows import read_rows, record_rows
from bitsearch.runs.run_settings import CalibrationSettings
from bitsearch.study.jobs import allocation_problem
from bitsearch.study.processes import ProcessGroup
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import Task

METHOD = "sensitivity"
"""By which the bits of a plan that is not uniform were found."""


@dataclass
class PlannedAllocation:
    """Scores, then two plans a budget, then their training on, in the run folder.

    Args:
        folder: begun, with full precision.
        processes: with the float network.
        calibration: splits whose training part are the calibration samples.
        progress: told how it goes.
    """

    folder: RunFolder
    processes: ProcessGroup
    calibration: Splits
    progress: Progress

    @property
    def task(self) -> Task:
        """Of the run."""
        return self.processes.task

    @property
    def settings(self) -> CalibrationSettings:
        """Of the run's calibrations."""
        settings = self.folder.settings.calibration
        assert settings is not None
        return settings

    def run(self) -> None:
        """Whatever has not been done yet."""
        stops, epochs = self.stops, self.settings.fine_tune
        count = 2 * len(stops)
        self.progress.started(self.folder.path, count * (2 if epochs else 1), len(self.folder.plans()))
        for trial, (budgets, uniform) in enumerate(product(stops, (False, True))):
            self.processes.stop.check()
            if not self.folder.plan_file(trial).is_file():
                self._calibrate(trial, budgets, uniform=uniform)
        if epochs:
            calibrated = [plan for plan in self.folder.plans() if _trial(plan) < count]
            chosen = best_of_every_budget(calibrated, stops, self.folder.settings.metric)
            for trial, plan in enumerate(chosen, start=count):
                self.processes.stop.check()
                if not self.folder.plan_file(trial).is_file():
                    self._train_on(trial, plan, epochs)

    @property
    def stops(self) -> list[list[Budget]]:
        """By stop of the sweep, the loosest first, the budgets that its plans meet; the run's own without a sweep."""
        settings = self.folder.settings
        others = [budget for budget in settings.budgets if budget.metric != settings.metric or budget.of_target]
        return [[stop, *others] for stop in settings.sweep] or [list(settings.budgets)]

    @cached_property
    def samples(self) -> CalibrationSamples:
        """On the device."""
        return CalibrationSamples.of(self.calibration, self.task.device, self.task.space.training.at_once)

    @cached_property
    def problem(self) -> AllocationProblem:
        """On the calibration samples; what training would win back of a loss is not left out."""
        untrained = self.task.space.allocation.model_copy(update={"weight_tolerance": 1.0, "time_tolerance": 1.0})
        return allocation_problem(
            self.processes, self._session(self.calibration), untrained, self.folder.settings.budgets
        )

    def _session(self, splits: Splits) -> TrainingSession:
        task = self.task
        return TrainingSession(splits, task.space.training, fabric=self.processes.fabric, task=task.learning_task)

    @cached_property
    def scores(self) -> Scores:
        """Measured once a run."""
        if not self.folder.scores_file.is_file():
            self.progress.note(f"scoring {len(self.task.rules.searched)} layers on {self.settings.samples} samples")
            write_scores(self.folder, measure_scores(self.problem, self.samples))
        return read_scores(self.folder)

    @cached_property
    def scored(self) -> ScoredNetwork:
        """For the integer program; where plans are trained on, with the space's own tolerances."""
        settings = self.task.space.allocation
        tolerances = (settings.weight_tolerance, settings.time_tolerance) if self.settings.fine_tune else (1.0, 1.0)
        loss = ScoredLoss(self.scores, weight_tolerance=tolerances[0], time_tolerance=tolerances[1])
        return ScoredNetwork(self.task.model, self.task.rules, loss, settings)

    @cached_property
    def planned(self) -> PlansWithinBudgets:
        """All of the run's plans."""
        return PlansWithinBudgets(
            self.task, self.scored, Calibrator(self.problem, self.samples, self.settings.iterations)
        )

    def _calibrate(self, trial: int, budgets: Sequence[Budget], *, uniform: bool) -> None:
        """The trial of the best plan within the budgets, or of the best uniform one; none where there is no new one."""
        label = _label(trial, uniform=uniform)

        def begins(layers: Layers) -> bool:
            if any(layers == plan.layers for plan in self.folder.plans()):
                return False
            self.progress.trial(label, len(STEPS) if self.settings.iterations else len(STEPS) - 1)
            return True

        plan = self.planned.best(budgets, self.scores.activity, uniform=uniform, begins=begins, on_step=self._told)
        if plan is None:
            return
        self.folder.append_log({"event": "calibrated", "trial": trial, "steps": [asdict(step) for step in plan.steps]})
        method = "uniform" if uniform else METHOD
        self._record(trial, plan.network, score_of(plan.row.numpy()), plan.activity, method, label)
        # What the choice is compared by at the end; it is not measured again.
        rows = read_rows(self.folder.validation_file) | {self.folder.weights_file(trial).stem: plan.row.numpy()}
        record_rows(self.folder.validation_file, rows)

    def _told(self, step: CalibrationStep) -> None:
        kept = "" if step.kept else ", undone"
        self.progress.step(f"{step.name}: divergence {step.divergence:.4f}{kept}")

    def _train_on(self, trial: int, plan: BitPlan, epochs: int) -> None:
        label = f"{_label(trial, uniform=is_uniform(plan))}, trained on"
        score = self.task.learning_task.score

        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log({"event": "epoch", "trial": trial, **logged(record, score)})
            self.progress.epoch(record)

        self.progress.trial(label, epochs)
        trained = self.processes.do(
            TrainOn(plan.layers, self.folder.weights_file(_trial(plan)), epochs),
            on_epoch,
            checkpoint_file=self.folder.checkpoint_file(trial),
            misfit=self.progress.note,
        )
        self._record(trial, trained.network, trained.score, trained.activity, plan.provenance.method, label)
        self.folder.forget_checkpoint(trial)

    def _record(
        self, trial: int, network: QuantizedNetwork, score: float, activity: SpikeStatistics, method: str, label: str
    ) -> None:
        settings = self.folder.settings
        plan = trial_plan(
            self.folder, self.task, settings.budgets, network, score, activity, trial=trial, method=method
        )
        record_trial(self.folder, self.task, plan, network, activity)
        cost = plan.costs[settings.metric]
        self.folder.append_log(
            {"event": "finished", "trial": trial, score_column(plan.measured.score, "validation"): score}
            | {settings.metric: cost}
        )
        self.progress.trial_done(label, score, cost)


def _trial(plan: BitPlan) -> int:
    assert plan.provenance.trial is not None
    return plan.provenance.trial


def _label(trial: int, *, uniform: bool) -> str:
    return f"{trial_name(trial)}, {'uniform' if uniform else METHOD}"
