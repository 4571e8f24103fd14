"""Ask and tell: a study whose trials are trained by code of the user's own."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.trial import TrialState
from torch import nn

from bitsearch.allocation.methods.own_training import OwnTraining
from bitsearch.choices import NeuronChoice
from bitsearch.data.splits import batch_count
from bitsearch.errors import InputError
from bitsearch.launch import launched_world_size
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.plan import BitPlan, UniformBits
from bitsearch.runs.interruption import Stop
from bitsearch.runs.plan_names import trial_name
from bitsearch.runs.progress import Progress
from bitsearch.space import SearchSpace
from bitsearch.study.asked_trial import Trial
from bitsearch.study.jobs import Trained, allocation_problem
from bitsearch.study.opening import held_study, make_folder, make_processes
from bitsearch.study.phases import conclude, prepare
from bitsearch.study.request import resolve
from bitsearch.study.result import SearchResult
from bitsearch.study.sampler import suggest
from bitsearch.study.study import DUPLICATE, FAILURE, ROLE, UNIFORM
from bitsearch.study.trial_roles import TrialSchedule
from bitsearch.train.session import TrainingSession
from bitsearch.validation import whole


class Study:
    """A search whose trials are trained by your own code: ask for one, train its network, tell its score.

    Budgets, uniform baselines, projection, front, page and going on are those of :func:`bitsearch.search`; only the
    training is yours. A trial that was asked for and not told is asked for again, when the study is opened anew with
    the same network, data and ``out``.

    Args:
        network: trained, as it is; every trial starts from its weights.
        data: as for :func:`bitsearch.search`: what full precision is measured on, and every trial's costs and, unless
            you tell another, its score. You may train on anything.
        budget: as for :func:`bitsearch.search`, as are the arguments that are not named here.
        steps: training steps of a trial's search phase, one call of :meth:`Trial.penalty` each; by default a quarter
            of the space's epochs (``allocation.search_share``).
        trials: that search; uniform baselines come on top.
        task: what networks learn, as for :func:`bitsearch.search`: its score is what :meth:`tell` measures, or takes.
        space: brings choices, batch size and outer loop; those of ``digits`` by default.

    Raises:
        InputError: anything given is wrong, or another process has the run folder open.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> data = bitsearch.load_data("digits", {}, split_seed=0)
    >>> with bitsearch.Study(network, data, "4x", trials=1, out="asked") as study:
    ...     trial = study.ask()
    ...     draft = trial.freeze()  # after a training
    ...     plan = study.tell(trial)  # with its score
    ...     result = study.result()
    >>> result.best.met
    True
    """

    def __init__(
        self,
        network: nn.Module,
        data: Any,
        budget: str | Sequence[str] | None = None,
        *,
        steps: int | None = None,
        space: SearchSpace | str | Path | None = None,
        time_axis: int | None = None,
        task: str | Mapping[str, Any] | None = None,
        layers: Sequence[LayerRule | Mapping[str, Any] | str] = (),
        ties: Sequence[TieRule | Mapping[str, Any] | str] = (),
        neuron: NeuronChoice | Mapping[str, Any] | None = None,
        metric: str | None = None,
        objective: str | None = None,
        max_drop: str | float | None = None,
        minimize: str | None = None,
        sweep: str | Sequence[str] | None = None,
        target: str | Path | None = None,
        trials: int | None = None,
        seed: int = 0,
        device: str = "auto",
        out: str | Path | None = None,
        reports: str | Path = "reports",
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise InputError(f"network is {type(network).__name__}; give a torch module, whose trials you train")
        steps = None if steps is None else whole(steps, "steps", 1)
        if launched_world_size() > 1:
            raise InputError(f"a Study is of one process, not of {launched_world_size()}; start it without torchrun")
        request = resolve(
            network,
            data,
            budget,
            space=space,
            time_axis=time_axis,
            training={},
            learning_task=task,
            layers=layers,
            ties=ties,
            neuron=neuron,
            method="adaptive",
            metric=metric,
            objective=objective,
            max_drop=max_drop,
            minimize=minimize,
            sweep=sweep,
            target=target,
            weights=None,
            trials=trials,
            seed=seed,
            device=device,
            storage=None,
            command=None,
            own_training=True,
        )
        self._task, settings = request.task, request.settings
        training = self._task.space.training
        share = self._task.space.allocation.search_share
        batches = batch_count(self._task.splits.train, training.batch_size)
        self._steps = steps or max(1, round(training.epochs * share)) * batches
        self.folder = make_folder(settings, out, reports)
        """The run folder."""
        self._open: Trial | None = None
        self._progress, self._stack = progress or Progress(), ExitStack()
        with ExitStack() as stack:
            self._study = stack.enter_context(held_study(self.folder))
            self._processes = make_processes(self._task, settings, Stop())
            self._prepared = prepare(
                self.folder, settings, self._processes, request.trials, self._progress, self._study, None
            )
            self._schedule = TrialSchedule(self._prepared.study_plan)
            self._stack = stack.pop_all()

    def __repr__(self) -> str:
        return f"Study({str(self.folder.path)!r})"

    def __enter__(self) -> "Study":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Trial]:
        """Trials until there are no more; each has to be told before the next."""
        while (trial := self.ask()) is not None:
            yield trial

    def close(self) -> None:
        """Let others have the run folder; a trial that is not told is asked for again by whoever opens it."""
        self._stack.close()

    def ask(self) -> Trial | None:
        """The next trial; None once as many have ended as were wanted.

        Raises:
            InputError: the one before has been neither told nor failed.
        """
        if self._open is not None:
            raise InputError(f"{self._open.label} is still open; tell it, or fail it, before you ask for another")
        while True:
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not waiting and not self._schedule.is_open(trials):
                return None
            with warnings.catch_warnings():
                # Nobody else works on the study, and whoever opens it next finds what was left.
                warnings.filterwarnings("ignore", "Heartbeat of storage")
                asked = self._study.ask()
            assignment = self._schedule.assignment(self._study.get_trials(deepcopy=False), asked.number)
            asked.set_user_attr(ROLE, assignment.role)
            if assignment.role == DUPLICATE:
                self._study.tell(asked, state=TrialState.FAIL)
                continue
            self._open = self._searching(asked) if assignment.bits is None else self._uniform(asked, assignment.bits)
            method = "uniform" if self._open.is_frozen else "adaptive"
            self.folder.append_log({"event": "started", "trial": asked.number, "method": method, "resumed": False})
            return self._open

    def _uniform(self, asked: optuna.Trial, bits: UniformBits) -> Trial:
        asked.set_user_attr(UNIFORM, str(bits))
        budgets = self.folder.settings.budgets
        problem = allocation_problem(self._processes, self._session(), self._task.space.allocation, budgets)
        plan = problem.plan(bits)
        network = problem.quantized(plan)
        network.fix(plan)
        return Trial(asked, f"{trial_name(asked.number, bits)}, uniform", network.train(), budgets, None)

    def _searching(self, asked: optuna.Trial) -> Trial:
        budgets = self._prepared.objective.aim(asked)
        settings = self._task.space.allocation_with(suggest(asked, self._task.space))
        problem = allocation_problem(self._processes, self._session(), settings, budgets)
        search = OwnTraining(problem, self._steps)
        return Trial(asked, f"{trial_name(asked.number)}, adaptive", search.network.train(), budgets, search)

    def tell(self, trial: Trial, score: float | None = None) -> BitPlan:
        """Hand in a trained trial: its plan, its costs, its weights and its score; its plan with them.

        Args:
            trial: as :meth:`ask` returned it, frozen.
            score: of the space's task on your validation data, such as an accuracy from 0 to 1; measured here on the
                study's by default.

        Raises:
            InputError: another trial than the open one, one whose bits still move, or a score that none can be.
        """
        self._check_open(trial)
        if not trial.is_frozen:
            raise InputError(f"{trial.label} is not frozen; call freeze() at the end of the search phase, and train on")
        kind = self._task.learning_task.score
        told = None if score is None else _number(score)
        if told is not None and not (math.isfinite(told) and (not kind.share or 0 <= told <= 1)):
            allowed = "a share from 0 to 1" if kind.share else "a finite number"
            raise InputError(f"score is {score!r}, of {kind.name}; give {allowed}, or none to have it measured")
        seconds = time.monotonic() - trial._began
        measured, activity = self._session().measure(trial.network)
        method = "uniform" if UNIFORM in trial._trial.user_attrs else "adaptive"
        trained = Trained(trial.network, measured if told is None else told, activity, seconds)
        values = self._prepared.objective.record(trial._trial, trained, method, trial.label)
        self._study.tell(trial._trial, values)
        self._open = None
        self.folder.write_tables()
        return self.folder.plan(trial.number)

    def fail(self, trial: Trial, reason: str) -> None:
        """Give a trial up; the reason, one line, is recorded, and the study goes on without it."""
        self._check_open(trial)
        reason = " ".join(str(reason).split()) or "no reason was given"
        self.folder.append_log({"event": "failed", "trial": trial.number, "reason": reason})
        trial._trial.set_user_attr(FAILURE, reason)
        self.folder.forget_trial(trial.number)
        self._study.tell(trial._trial, state=TrialState.FAIL)
        self._open = None

    def result(self) -> SearchResult:
        """The plans so far: one is chosen, and what is shown is measured on the test split, where there is one.

        Raises:
            InputError: no trial meets the budgets yet.
        """
        return conclude(self.folder, self._task, self._prepared.network)

    def _session(self) -> TrainingSession:
        task, fabric = self._task, self._processes.fabric
        return TrainingSession(task.splits, task.space.training, fabric=fabric, task=task.learning_task)

    def _check_open(self, trial: Trial) -> None:
        if not isinstance(trial, Trial):
            raise InputError(f"trial is {trial!r}; give what ask() returned")
        if trial is not self._open:
            raise InputError(f"{trial.label} is not the open trial; tell each once, before you ask for another")


def _number(score: Any) -> float:
    """A score as a float, be it a tensor's or numpy's; NaN of anything else."""
    try:
        return math.nan if isinstance(score, str) else float(score)
    except (TypeError, ValueError, RuntimeError):
        return math.nan
