"""Trackers are told of trials and epochs; nothing is sent anywhere."""

import json
import struct
import time
from importlib import util

import pytest

from bitsearch.errors import InputError
from bitsearch.runs.progress import Progress
from bitsearch.runs.trackers import TRACKERS, check_tracker
from bitsearch.runs.tracking import Tracking, tracked
from bitsearch.score import Score
from bitsearch.train.epoch_record import EpochRecord

# Other people's libraries: what they warn of is not a fault of a run.
pytestmark = pytest.mark.filterwarnings("ignore")
TRIAL = "trial 4, adaptive"


class Notes(Progress):
    def __init__(self):
        self.calls, self.notes = [], []

    def trial(self, label, epochs):
        self.calls.append(label)

    def epoch(self, record):
        self.calls.append(record.epoch)

    def trial_done(self, label, score, cost):
        self.calls.append(score)

    def note(self, text):
        self.notes.append(text)


def record(phase, epoch, loss):
    return EpochRecord(phase, epoch, 2, loss, 0.5 + loss / 10, {"bit_budget": 20.0 - epoch})


@pytest.fixture
def told(finished_run, copied, monkeypatch):
    """By a tracker's name: the folder of a run of which it was told in two parts, as of one that was interrupted."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    def tell(name):
        folder, notes = copied(finished_run).folder, Notes()
        with tracked(name, folder, notes) as progress:
            progress.score = Score(name="mean IoU")
            assert notes.score.name == "mean IoU"
            progress.trial("full precision", 1)
            progress.epoch(record("full precision", 1, 3.0))
            progress.trial_done("full precision", 0.9, None)
            progress.trial(TRIAL, 3)
            progress.epoch(record("search", 1, 2.0))
            progress.epoch(record("fine-tune", 1, 1.0))
        if name == "wandb":
            # Its folders are named by the second.
            time.sleep(1.1)
        with tracked(name, folder, notes) as progress:
            progress.trial(TRIAL, 3)
            progress.epoch(record("fine-tune", 2, 0.5))
            progress.trial_done(TRIAL, 0.8, 12.5)
        Tracking(name, folder, notes).attach(folder.chosen_file)
        Tracking(name, folder, notes).attach(folder.settings_file)
        assert notes.notes == []
        assert notes.calls == ["full precision", 1, 0.9, TRIAL, 1, 1, TRIAL, 2, 0.8]
        return folder

    return tell


def test_tensorboard(told):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = told("tensorboard")
    events = EventAccumulator(str(folder.path / "tensorboard" / "trial-4-adaptive")).Reload()
    series = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert series["loss"] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert series["bit_budget"] == [(1, 19.0), (2, 19.0), (3, 18.0)]
    assert series["measured bit_budget"] == [(3, 12.5)]
    assert series["measured mean IoU"] == [(3, pytest.approx(0.8))]
    result = folder.path / "tensorboard" / "result"
    assert (result / "plan.json").read_bytes() == folder.chosen_file.read_bytes()
    assert (result / "run.toml").is_file()


def test_mlflow(told):
    from mlflow.tracking import MlflowClient

    folder = told("mlflow")
    client = MlflowClient(f"sqlite:///{folder.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.path.name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"full precision", TRIAL, "result"}
    trial = runs[TRIAL]
    assert trial.info.status == "FINISHED"
    assert [(m.step, m.value) for m in client.get_metric_history(trial.info.run_id, "loss")] == [
        (1, 2),
        (2, 1),
        (3, 0.5),
    ]
    assert trial.data.metrics["measured mean IoU"] == 0.8
    assert trial.data.params["seed"] == str(folder.settings.seed)
    assert trial.data.params["epochs"] == str(folder.settings.space.training.epochs)
    files = {file.path for file in client.list_artifacts(runs["result"].info.run_id)}
    assert files == {"plan.json", "run.toml"}


@pytest.mark.processes
def test_wandb(told):
    folder = told("wandb")
    keys = {name: run["key"] for name, run in json.loads((folder.path / "tracking.json").read_text()).items()}
    assert set(keys) == {"wandb: full precision", f"wandb: {TRIAL}", "wandb: result"}
    (key,) = (key for name, key in keys.items() if TRIAL in name)
    runs = [list(recorded(file)) for file in (folder.path / "wandb").glob(f"*-{key}/run-{key}.wandb")]
    # It went on under the same key.
    assert len(runs) == 2
    steps = []
    for run in runs:
        assert {record.run.display_name for record in run if record.HasField("run")} == {TRIAL}
        for record in run:
            values = {"".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            steps += [(values["trainer/global_step"], values["loss"])] if "loss" in values else []
    assert sorted(steps) == [("1", "2"), ("2", "1"), ("3", "0.5")]


def recorded(file):
    """What a file of Weights & Biases holds: after seven bytes, a log in LevelDB's format, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, data = file.read_bytes(), 7, b""
    while position < len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack("<4xHB", content[position : position + 7])
        data += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(data)
            yield record
            data = b""


def test_a_tracker_that_fails_does_not_end_the_search(finished_run, copied, monkeypatch):
    folder, notes = copied(finished_run).folder, Notes()

    def fail(self, logger, file):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(type(TRACKERS["tensorboard"]), "attach", fail)
    tracking = Tracking("tensorboard", folder, notes)
    tracking.attach(folder.chosen_file)
    tracking.trial(TRIAL, 1)
    assert notes.notes == ["tensorboard fails, and is told nothing more: OSError: no route to host"]
    assert notes.calls == [TRIAL]


def test_without_one_a_run_tells_its_progress_alone(tmp_path):
    notes = Notes()
    with tracked(None, tmp_path, notes) as progress:
        assert progress is notes


def test_what_is_not_there_is_one_line(monkeypatch):
    with pytest.raises(InputError, match=r"^no logger named 'tensorbord'; known: tensorboard, mlflow, wandb.*'tensorb"):
        check_tracker("tensorbord")
    for name in TRACKERS:
        check_tracker(name)
    monkeypatch.setattr("bitsearch.runs.trackers.find_spec", lambda module: util.find_spec("no_such_module"))
    with pytest.raises(InputError) as caught:
        check_tracker("mlflow")
    assert str(caught.value) == "mlflow, pytorch_lightning is not installed; run: pip install 'bitsearch[mlflow]'"
