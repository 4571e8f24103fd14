"""Working on a study that another machine has started."""

from contextlib import closing

import optuna

from bitsearch.launch import is_rank_zero
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.progress import Progress
from bitsearch.runs.rebuild import require_trust
from bitsearch.runs.trackers import check_tracker
from bitsearch.runs.tracking import tracked
from bitsearch.study.database.artifacts import Artifacts
from bitsearch.study.database.optuna_internals import storage_of
from bitsearch.study.database.proxy import open_shared
from bitsearch.study.objective import Objective
from bitsearch.study.opening import make_processes
from bitsearch.study.phases import load_pretrained
from bitsearch.study.runtime import runtime_context
from bitsearch.study.sampler import TrialSampler
from bitsearch.study.shared_study import read_worker_config, wait_for_study
from bitsearch.study.study import is_finished, is_intermediate
from bitsearch.study.trial_loop import TrialRunner
from bitsearch.train.fabric import process_group
from bitsearch.train.task import load_task


def work(
    storage: str,
    study: str,
    folder: RunFolder,
    *,
    artifacts: str | None = None,
    trust: bool = False,
    device: str = "auto",
    patience: float = 0.0,
    logger: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Take trials from a study until none is left; how many ended here.

    Args:
        storage: URL of the database, or ``grpc://host:port`` of a proxy in front of it.
        study: its name.
        folder: for the log, and for what a trial needs while it runs. Where several workers share one, or one outlives
            its worker, a lost trial goes on from its last whole epoch.
        artifacts: where the plans and weights are, if not where the study says.
        trust: import a network or data set of the study that is no shipped one.
        device: as for :func:`bitsearch.study.run.search`.
        patience: seconds to wait for a study that is not there yet.
        logger: as for :func:`bitsearch.study.run.search`; it is told of the trials that this worker trains.
        progress: told how it goes.

    Raises:
        InputError: no such study, another version's, or one that runs code that is not trusted; or the last trials
            all failed with one cause.
        StorageError: the database or the store is away for too long.
        KeyboardInterrupt: asked to stop; the trial goes back to the others.
    """
    if logger is not None:
        check_tracker(logger)
    reporter = progress or Progress()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop(lambda: reporter.note("stopping after this epoch; Ctrl-C again stops at once"))
    with process_group(), stop.handle_signals(), closing(open_shared(storage)) as database:
        shared_study = wait_for_study(database, study, patience, stop)
        config = read_worker_config(shared_study)
        assert config is not None
        settings, study_plan = config.settings, config.study_plan
        if not trust:
            require_trust(settings.space, f"study {study!r}")
        # The trained float network comes from the study; a user's file is on the first machine only.
        space = settings.space.model_copy(update={"weights": None})
        task = load_task(space, seed=settings.seed, device=device, target=settings.target)
        processes = make_processes(task, settings, stop)
        reporter.score = task.learning_task.score
        with runtime_context(task, compiled=settings.compiled):
            if not is_rank_zero():
                processes.serve()
                return 0
            with processes.leading():
                store = Artifacts(artifacts or config.artifacts)
                folder.make()
                folder.write_settings(settings)
                store.fetch(shared_study, storage_of(shared_study), folder.full_precision_weights)
                load_pretrained(processes, folder.full_precision_weights, settings.signed_input)
                before = shared_study.get_trials(deepcopy=False)
                done = sum(is_finished(trial) and not is_intermediate(trial) for trial in before)
                reporter.started(folder.path, study_plan.total, done)
                shared_study.sampler = TrialSampler(settings.space, settings.seed, study_plan)
                with tracked(logger, folder, reporter) as told:
                    objective = Objective(folder, task, settings.budgets, processes, told, store, study_plan.front)
                    runner = TrialRunner(
                        shared_study, study_plan, objective, folder, told, stop, processes.can_continue
                    )
                    runner.run_all()
                processes.shutdown(str(folder.path))
    return runner.ended
