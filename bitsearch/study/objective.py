"""One trial: from parameters to a trained plan, its weights and its two objective values."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import optuna
from numpy.typing import NDArray
from torch import nn

from bitsearch.cost import Budget
from bitsearch.plan import DROP, BitPlan, BudgetOutcome
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import standard_error
from bitsearch.runs.pareto import score_column, validation_rank, validation_score
from bitsearch.runs.plan_names import trial_name
from bitsearch.runs.progress import Progress, logged
from bitsearch.runs.record_trial import record_trial, trial_plan
from bitsearch.study.database.artifacts import Artifacts
from bitsearch.study.front import FrontAxis
from bitsearch.study.jobs import Allocate, Start, Trained, TrainUniform
from bitsearch.study.processes import Job, ProcessGroup
from bitsearch.study.repeated import TRAINING, copy_result, finished_training, training_checksum
from bitsearch.study.sampler import suggest, suggest_target
from bitsearch.study.study import UNIFORM, add_intermediate
from bitsearch.study.trial_roles import Assignment
from bitsearch.study.warm_start import START, load_start, nearest_start
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.evaluate import score_row
from bitsearch.train.task import Task

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Objective:
    """Runs a trial; returns (validation score as :meth:`bitsearch.score.Score.rank` has it, cost).

    Every trial at the budget, and every uniform one, starts from the same full-precision network and sees the batches
    in the same order, so that what distinguishes two of them is their allocation. A trial along the front goes on from
    the nearest one that has finished.
    """

    folder: RunFolder
    task: Task
    budgets: Sequence[Budget]
    processes: ProcessGroup
    progress: Progress
    artifacts: Artifacts | None = None
    """Where others look for the plan and the weights."""
    front: FrontAxis | None = None
    """Along which trials are spread; all of them aim at the budgets where there is none."""

    def __call__(self, trial: optuna.Trial, assignment: Assignment) -> tuple[float, float]:
        """Run the trial, or go on with it, write its plan and weights, and score it.

        Plans left on the way get trials of their own. What an earlier trial has trained already is taken from there.
        """
        space = self.task.space
        on_the_way: list[Trained] = []
        repeated: BitPlan | None = None
        if assignment.bits is not None:
            trial.set_user_attr(UNIFORM, str(assignment.bits))
            method, label = "uniform", f"{trial_name(trial.number, assignment.bits)}, uniform"
            epochs = space.training.epochs
            last = self._do(TrainUniform(assignment.bits), trial, assignment, method, label, epochs)
        else:
            budgets = self.aim(trial)
            turn = {} if assignment.method is None else {"method": assignment.method}
            settings = space.allocation_with(suggest(trial, space) | turn)
            method = settings.method
            label = f"{trial_name(trial.number)}, {method.replace('_', ' ')}"
            # What a method chooses by its attempts, it chooses anew at every point of the front.
            attempt = 0 if assignment.along_front else assignment.index
            short = assignment.along_front and self.front is not None and self.front.has_short_trials
            start = self._start(trial, budgets[0].limit) if short else None
            epochs = space.training.epochs if start is None else space.front_epochs
            job = Allocate(settings, attempt, budgets, epochs, start)
            repeated = self._repeated(trial, job)
            if repeated is None:
                *on_the_way, last = self._do(job, trial, assignment, method, label, epochs)
        result = self._write(last, trial.number, method) if repeated is None else repeated
        self._mark(trial, result, last.seconds if repeated is None else 0.0)
        numbers = [trial.number]
        for index, trained in enumerate(on_the_way):
            plan = self._plan(trained, None, method)
            attributes = {"costs": plan.costs, "seconds": trained.seconds}
            number = add_intermediate(
                trial, assignment.origin, index, self._values(plan), self._excess(plan), attributes
            )
            self._write(trained, number, method)
            numbers.append(number)
        return self._finish(trial, result, numbers, label)

    def record(self, trial: optuna.Trial, trained: Trained, method: str, label: str) -> tuple[float, float]:
        """Write the plan and the weights of a network that was trained elsewhere as the trial's, and score it."""
        plan = self._write(trained, trial.number, method)
        self._mark(trial, plan, trained.seconds)
        return self._finish(trial, plan, [trial.number], label)

    def _mark(self, trial: optuna.Trial, plan: BitPlan, seconds: float) -> None:
        """Tell the study what the plan costs, and how far above its limits it is."""
        with warnings.catch_warnings():
            # A trial that was killed after this point sets them again, to the same values.
            warnings.filterwarnings("ignore", "The constraint value is ignored")
            for metric, excess in self._excess(plan).items():
                trial.set_constraint(metric, excess)
        trial.set_user_attr("costs", plan.costs)
        trial.set_user_attr("seconds", seconds)

    def _finish(self, trial: optuna.Trial, plan: BitPlan, numbers: Sequence[int], label: str) -> tuple[float, float]:
        """Hand in the files of the trial, and of what it left on its way, and log its values."""
        if self.artifacts is not None:
            for number in numbers:
                self.artifacts.upload(trial, self.folder.plan_file(number), self.folder.weights_file(number))
        values = self._values(plan)
        score, cost = validation_score(plan), values[1]
        column = score_column(plan.measured.score, "validation")
        event = {"event": "finished", "trial": trial.number, column: score, self.folder.settings.metric: cost}
        self.folder.append_log(event)
        self.progress.trial_done(label, score, cost)
        return values

    def _repeated(self, trial: optuna.Trial, job: Allocate) -> BitPlan | None:
        """The plan of an earlier trial with the same training, written as this one's; None if it has to be trained."""
        checksum = training_checksum(job)
        trial.set_user_attr(TRAINING, checksum)
        earlier = finished_training(trial.study, checksum)
        if earlier is None:
            return None
        plan = copy_result(self.folder, earlier, trial.number, trial.study, self.artifacts)
        if plan is not None:
            self.progress.note(f"trial {trial.number} is trial {earlier.number} again, and is not trained twice")
            self.folder.append_log({"event": "repeated", "trial": trial.number, "of": earlier.number})
        return plan

    def _start(self, trial: optuna.Trial, target: float) -> Start | None:
        """What a trial along the front goes on from; None, and full precision, while no other has finished."""
        trials = trial.study.get_trials(deepcopy=False)
        if START not in trial.user_attrs:
            nearest = nearest_start(trials, target)
            trial.set_user_attr(START, None if nearest is None else nearest.number)
        # One that was interrupted goes on from where it began, whatever has finished since.
        number = trial.user_attrs[START]
        if number is None:
            return None
        return Start(number, load_start(self.folder, trials[number], trial.study, self.artifacts))

    def aim(self, trial: optuna.Trial) -> tuple[Budget, ...]:
        """The budgets of one trial: the run's, but for the limit on the front's axis, which is where the trial aims."""
        if self.front is None:
            return tuple(self.budgets)
        metric, target = self.front.metric, suggest_target(trial, self.front)
        fixed = [budget for budget in self.budgets if budget.metric != metric or budget.of_target]
        return (Budget(metric, f"{target:.6g}", target), *fixed)

    def _do(
        self,
        job: Job[_Result],
        trial: optuna.Trial,
        assignment: Assignment,
        method: str,
        label: str,
        epochs: int,
    ) -> _Result:
        checkpoint = self.folder.checkpoint_file(assignment.origin)

        def on_epoch(record: EpochRecord) -> None:
            self.folder.append_log(
                {"event": "epoch", "trial": trial.number, **logged(record, self.task.learning_task.score)}
            )
            self.progress.epoch(record)

        def starts_anew(reason: str) -> None:
            self.progress.note(f"trial {trial.number} trains a phase anew: {reason}")

        self.progress.trial(label, epochs)
        resumed = checkpoint.is_file()
        if resumed:
            self.progress.note(f"trial {trial.number} goes on after its last whole epoch")
        start = trial.user_attrs.get(START)
        begun = {} if start is None else {"goes_on_from": start}
        self.folder.append_log(
            {"event": "started", "trial": trial.number, "method": method, "resumed": resumed, **begun}
        )
        return self.processes.do(job, on_epoch, checkpoint_file=checkpoint, misfit=starts_anew)

    def _values(self, plan: BitPlan) -> tuple[float, float]:
        return validation_rank(plan), plan.costs[self.folder.settings.metric]

    def _excess(self, plan: BitPlan) -> dict[str, float]:
        """By metric, how far the cost is above the tightest limit; below zero within it. So of an accuracy goal."""
        limits, goal = self.folder.settings.limits, plan.accuracy_goal
        excess = {metric: plan.costs[metric] - budget.limit for metric, budget in limits.items()}
        return excess if goal is None else excess | {DROP: goal.achieved - goal.limit}

    def _write(self, trained: Trained, trial: int, method: str) -> BitPlan:
        plan = self._plan(trained, trial, method)
        record_trial(self.folder, self.task, plan, trained.network, trained.activity)
        return plan

    def _goal(self, trained: Trained) -> list[BudgetOutcome]:
        """What a network loses against full precision, where there is a goal for it."""
        settings = self.folder.settings
        if settings.goal is None:
            return []
        reference = settings.full_precision
        assert reference.validation is not None
        error = 0.0
        if settings.goal.errors:
            error = standard_error(self._reference, self._row(trained.network))
        return [settings.goal.outcome(reference.validation, trained.score, error, reference.score)]

    @cached_property
    def _reference(self) -> NDArray[Any]:
        """What full precision gets right of validation."""
        return self._row(self.processes.network)

    def _row(self, network: nn.Module) -> NDArray[Any]:
        at_once, validation = self.task.space.training.at_once, self.task.splits.validation
        row: NDArray[Any] = score_row(network, validation, at_once, self.task.learning_task).numpy()
        return row

    def _plan(self, trained: Trained, trial: int | None, method: str) -> BitPlan:
        return trial_plan(
            self.folder,
            self.task,
            self.budgets,
            trained.network,
            trained.score,
            trained.activity,
            trial=trial,
            method=method,
            goal=self._goal(trained),
        )
