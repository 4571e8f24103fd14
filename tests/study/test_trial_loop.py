import json
import re
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from optuna.trial import TrialState

import bitsearch.study.database.storage as storage_module
from bitsearch.choices import Choices
from bitsearch.errors import InputError, StorageError
from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Interrupted, Stop
from bitsearch.runs.progress import Progress
from bitsearch.study.database.storage import open_storage
from bitsearch.study.run import search
from bitsearch.study.study import FAILURE, open_study
from bitsearch.study.trial_loop import SAME_CAUSE, TrialRunner, cause_of
from bitsearch.study.trial_roles import StudyPlan

KEY_ERROR = 'raise KeyError("width")'
UNIFORM = [UniformBits(weight_bits=1, spike_bits=1, time_steps=1)]


class Told(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def taking(tmp_path):
    """Takes trials with an objective, on a study that stays between calls."""
    folder = RunFolder(tmp_path / "run")
    folder.make()

    def take(objective, adaptive, told=None):
        storage = open_storage(folder.storage_url)
        study = open_study(storage, "test")
        try:
            TrialRunner(study, StudyPlan(adaptive, UNIFORM), objective, folder, told or Told(), Stop()).run_all()
        finally:
            trials = study.get_trials()
            storage.close()
            take.trials = trials
        return trials

    take.folder = folder
    return take


def test_a_failed_trial_is_recorded_with_its_reason_and_the_study_goes_on(taking):
    def objective(trial, assignment):
        if trial.number == 1:
            raise KeyError("width")
        return 0.5, 1.0

    told = Told()
    trials = taking(objective, 3, told)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 2]
    (line,) = [
        number for number, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.strip() == KEY_ERROR
    ]
    cause = f"tests/study/test_trial_loop.py:{line}: KeyError: 'width'"
    assert trials[1].user_attrs[FAILURE].endswith(cause)
    assert [note.endswith(cause) for note in told.notes] == [True]
    (event,) = [event for event in taking.folder.log() if event["event"] == "failed"]
    assert (event["trial"], event["reason"]) == (1, trials[1].user_attrs[FAILURE])
    assert "test_trial_loop.py" in event["traceback"]


def test_three_failures_in_a_row_with_one_cause_stop_the_study_with_it(taking):
    def objective(trial, assignment):
        raise InputError(f"the training loss is nan in epoch {trial.number}; lower training.learning_rate")

    with pytest.raises(InputError, match="3 trials in a row failed, and the study stops: the training loss is nan"):
        taking(objective, 9)
    assert len(taking.trials) == SAME_CAUSE
    # Given again, after the cause has been mended, the study goes on.
    trials = taking(lambda trial, assignment: (0.5, 1.0), 9)
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3 + [TrialState.COMPLETE] * 7


def test_three_searching_trials_that_fail_alike_stop_it_though_uniform_ones_lie_between(taking):
    def objective(trial, assignment):
        if assignment.bits is None:
            raise InputError(f"the training loss is nan in epoch {trial.number}")
        return 0.5, 1.0

    with pytest.raises(InputError, match="3 searching trials in a row failed, and the study stops: the training loss"):
        taking(objective, 9)
    states = [trial.state for trial in taking.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]


def test_a_trial_between_that_succeeds_does_not(taking):
    def objective(trial, assignment):
        if trial.number % 3:
            raise InputError("the training loss is nan")
        return 0.5, 1.0

    assert len(taking(objective, 5)) == 6


def test_three_failures_with_different_causes_do_not(taking):
    def objective(trial, assignment):
        raise [KeyError, ValueError, TypeError][trial.number % 3]("given")

    assert len(taking(objective, 5)) == 6


def test_a_reason_is_one_short_line_without_passwords_or_tensors():
    assert cause_of(RuntimeError("two\nlines of postgresql://a:secret@host/db")) == (
        "RuntimeError: two lines of postgresql://a:***@host/db"
    )
    assert len(cause_of(ValueError("tensor([" + "0.1, " * 10_000))) == 300


def test_storage_that_fails_is_not_the_trials_fault(taking):
    def full(trial, assignment):
        raise StorageError("cannot write weights: No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        taking(full, 2)
    assert [trial.state for trial in taking.trials] == [TrialState.RUNNING]


def test_a_trial_that_is_interrupted_goes_back_to_the_queue(taking):
    def interrupted(trial, assignment):
        raise Interrupted

    with pytest.raises(Interrupted):
        taking(interrupted, 2)
    assert [trial.state for trial in taking.trials] == [TrialState.WAITING]
    assert [trial.number for trial in taking(lambda trial, assignment: (0.5, 1.0), 2)] == [0, 1, 2]


def test_a_locked_study_is_waited_for_and_then_told(taking, monkeypatch):
    monkeypatch.setattr(storage_module, "SQLITE_PATIENCE", 1.0)
    taking(lambda trial, assignment: (0.5, 1.0), 1)
    other = sqlite3.connect(taking.folder.path / "study.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"study\.db.*database is locked"):
        taking(lambda trial, assignment: (0.5, 1.0), 3)
    monkeypatch.setattr(storage_module, "SQLITE_PATIENCE", 60.0)
    release = threading.Timer(1.0, other.rollback)
    release.start()
    assert len(taking(lambda trial, assignment: (0.5, 1.0), 3)) == 4
    release.join()
    other.close()


@pytest.mark.parametrize("jump", ["-1 day", "+1 day"])
def test_a_clock_that_jumps_loses_no_trial(taking, jump):
    def objective(trial, assignment):
        with closing(sqlite3.connect(taking.folder.path / "study.db", timeout=30)) as other, other:
            other.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, ?)", (jump,))
        return 0.5, 1.0

    assert [trial.state for trial in taking(objective, 3)] == [TrialState.COMPLETE] * 4


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.first = nn.Conv2d(channels, 2, 3, stride=4)
        self.second = nn.Conv2d(2, 2, 1)
        self.last = nn.Linear(8, classes)

    def forward(self, x):
        x = self.second(self.first(x).relu()).relu()
        if type(self.second).__name__.startswith("Quantized") and self.second.is_learnable and self.training:
            raise RuntimeError("my own mistake")
        return self.last(x.flatten(1))

def make(input_shape, classes, **options):
    return Own(input_shape[0], classes)
"""


def test_an_exception_in_the_users_network_ends_its_trial_alone(tiny_space, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    space = tiny_space.model_copy(
        update={
            "network": "own_net:make",
            "network_options": {},
            "training": tiny_space.training.model_copy(update={"epochs": 1, "full_precision_epochs": 1}),
        }
    )
    told, folder = Told(), RunFolder(tmp_path / "run")
    cause = f"{tmp_path / 'own_net.py'}:14: RuntimeError: my own mistake"
    with pytest.raises(InputError) as refused:
        search(space, "4x", out=folder.path, progress=told)
    assert str(refused.value).startswith(
        f"no learned allocation was trained: 2 trials failed, the last because {cause}; mend it, and give"
    )
    assert not folder.chosen_file.exists()
    assert {plan.provenance.method for plan in folder.plans()} == {"uniform"}
    assert [note for note in told.notes if "failed" in note] == [f"trial {number} failed: {cause}" for number in (0, 2)]
    assert {path.name for path in (folder.path / "weights").iterdir()} == {
        "full-precision.safetensors",
        "trial-0001.safetensors",
        "trial-0003.safetensors",
    }


def resident():
    """Megabytes of this process's memory."""
    with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_two_hundred_trials_do_not_grow_the_process(tiny_space, tmp_path, monkeypatch):
    """A real search whose trials are as short as they can be; in memory, since a disk is what they would wait for."""
    (tmp_path / "small_net.py").write_text(
        OWN.replace('raise RuntimeError("my own mistake")', "pass"), encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    changed = {
        "network": "small_net:make",
        "network_options": {},
        "choices": Choices.model_validate({"weight_bits": [2, 4], "spike_bits": [2, 4], "time_steps": [1, 2]}),
        "training": tiny_space.training.model_copy(
            update={"epochs": 1, "full_precision_epochs": 1, "batch_size": 1200}
        ),
        "search": tiny_space.search.model_copy(update={"uniform_trials": 1, "sampler": "random"}),
    }
    seen = []

    class Watching(Progress):
        def trial_done(self, label, accuracy, cost):
            seen.append(resident())

    with TemporaryDirectory(dir="/dev/shm") as folder:
        search(tiny_space.model_copy(update=changed), "2x", trials=215, out=Path(folder) / "run", progress=Watching())
    assert len(seen) == 217
    # What the first trials load stays.
    assert seen[-1] - seen[16] < 50, f"{seen[16]:.0f} MB grew to {seen[-1]:.0f} MB"
    print(f"two hundred trials grew the process by {seen[-1] - seen[16]:.1f} MB")


def test_log_lines_are_events_and_a_line_cut_short_loses_itself_only(finished_run, tmp_path):
    lines = (finished_run.folder.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert {event["event"] for event in events} == {"data", "epoch", "started", "measured", "finished"}
    assert all(event["time"].endswith("+00:00") for event in events)
    assert max(map(len, lines)) < 2000
    folder = RunFolder(tmp_path)
    folder.append_log({"event": "a"})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "b')
    folder.append_log({"event": "c", "url": "postgresql://ann:s3cret@host/db"})
    assert [event["event"] for event in folder.log()] == ["a", "c"]
    assert folder.log()[1]["url"] == "postgresql://ann:***@host/db"
