"""A worker on trials of a quarter of a second, that can be killed and cut off and is missed after seconds."""

import ctypes
import faulthandler
import os
import time
from pathlib import Path

import optuna

from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.progress import Progress
from bitsearch.space import SearchSpace
from bitsearch.study.database import proxy, storage
from bitsearch.study.sampler import TrialSampler, suggest
from bitsearch.study.study import open_study
from bitsearch.study.trial_loop import TrialRunner
from bitsearch.study.trial_roles import StudyPlan


def take_trials(url, folder, trials, name, namespace=None):
    """In a process of its own, and in a network namespace of its own if one is given by its file."""
    faulthandler.dump_traceback_later(240)
    if namespace is not None:
        _enter(namespace)
    storage.HEARTBEAT_SECONDS = proxy.HEARTBEAT_SECONDS = 1
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.load(folder / "tiny.toml")
    wanted = StudyPlan(trials, [UniformBits(weight_bits=1, spike_bits=1, time_steps=1)])
    study = open_study(proxy.open_shared(url), name)
    study.sampler = TrialSampler(space, 0, wanted)
    own = RunFolder(folder / "own")
    own.make()

    def objective(trial, assignment):
        suggest(trial, space)
        time.sleep(0.25)
        return 0.5, 1.0 + trial.number

    TrialRunner(study, wanted, objective, own, Progress(), Stop()).run_all()


def _enter(namespace):
    """As :func:`os.setns` does, which Python has from 3.12 on."""
    with Path(namespace).open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))
