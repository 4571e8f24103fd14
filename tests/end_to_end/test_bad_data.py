"""No data and no code of the user's, however odd, end in a traceback: they are taken, or refused in one line.

``BITSEARCH_INPUTS=1000`` tries so many of every kind.
"""

import io
import json
import os
import shutil
from pathlib import Path

import hostile
import odd_values
import pytest
from event_files import write_dvs128_gesture, write_n_mnist, write_recordings
from hypothesis import given
from hypothesis import strategies as st
from image_files import write_mnist
from odd_input import harmless, inputs, tried
from PIL import Image

pytestmark = [pytest.mark.training, pytest.mark.exhaustive]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("odd")


MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@inputs(25)
@given(data=st.data(), name=st.sampled_from(MNIST), suffix=st.sampled_from(["", ".gz"]))
def test_idx_files(data, name, suffix, call, work):
    root = work / f"mnist{suffix}"
    if not root.exists():
        write_mnist(root, each=2, test_each=1, packed=bool(suffix))
    file = f"{root.name}/MNIST/raw/{name}{suffix}"
    content = data.draw(hostile.noise((work / file).read_bytes()))
    tried(call, work, file, content, ("data", "check", "mnist", "--root", root.name))


@inputs(25)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "bmp", "gif", "webp", "tiff"]))
def test_images(data, suffix, call, work):
    root = work / "images"
    for part in ("train", "test"):
        for label in ("a", "b"):
            for index in range(6):
                (root / part / label).mkdir(parents=True, exist_ok=True)
                if not (root / part / label / f"{index}.png").exists():
                    Image.new("RGB", (9, 7), (index, 0, 0)).save(root / part / label / f"{index}.png")
    stream = io.BytesIO()
    Image.new("RGB", (9, 7)).save(stream, suffix.replace("jpg", "jpeg"))
    content = data.draw(hostile.noise(stream.getvalue()))
    command = ("data", "check", "image_folder", "--root", "images", "--set", "size=8")
    tried(call, work, f"images/train/a/x.{suffix}", content, command)


@inputs(25)
@given(data=st.data())
def test_image_folders(data, call, work):
    """Files, folders and links of any name and depth, in the place of images and classes."""
    root = work / "folders"
    names = st.sampled_from(
        ["a", "b", "0.png", "1.jpg", "._0.png", "Thumbs.db", ".hidden", "train", "test", "ü\n", " "]
    )
    kinds = st.sampled_from(["image", "image", "image", "empty", "folder", "link", "loop"])
    entries = data.draw(st.lists(st.tuples(st.lists(names, min_size=1, max_size=4), kinds), min_size=1, max_size=12))
    try:
        for number, (entry, kind) in enumerate(entries):
            path = root.joinpath("train" if number % 2 else "test", *entry)
            if any(os.path.lexists(parent) and not parent.is_dir() for parent in path.parents) or os.path.lexists(path):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "image":
                Image.new("RGB", (4, 4)).save(path, "png")
            elif kind == "folder":
                path.mkdir()
            elif kind == "empty":
                path.touch()
            else:
                path.symlink_to(root if kind == "loop" else work / "nowhere")
        command = ("data", "check", "image_folder", "--root", "folders", "--set", "validation_share=0.5")
        harmless(call(*command, cwd=work))
    finally:
        shutil.rmtree(root, ignore_errors=True)


RECORDINGS = {
    "n_mnist": (write_n_mnist, ["extract/Train/0/00000.bin", "extract/Test/1/00001.bin"]),
    "dvs128_gesture": (
        write_dvs128_gesture,
        [f"extract/DvsGesture/{name}" for name in ("user01_led.aedat", "user24_led_labels.csv", "trials_to_test.txt")],
    ),
}


@inputs(12)
@given(data=st.data(), name=st.sampled_from(sorted(RECORDINGS)))
def test_recordings(data, name, call, work):
    root, (write, files) = work / name, RECORDINGS[name]
    if not root.exists():
        write(root)
    for folder in [*root.glob("events_np*"), *root.glob("frames_*")]:
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    file = data.draw(st.sampled_from(files))
    content = data.draw(hostile.noise((root / file).read_bytes()))
    tried(call, work, f"{name}/{file}", content, ("data", "check", name, "--root", name, "--set", "frames=2"))


@inputs(10)
@given(data=st.data())
def test_spike_files(data, call, work):
    root = work / "shd"
    if not root.exists():
        root.mkdir()
        # As few as there can be, of which every one is read.
        for count, name in ((2, "shd_train.h5"), (1, "shd_test.h5")):
            write_recordings(root / name, count, seed=count)
    content = data.draw(hostile.noise((root / "shd_test.h5").read_bytes()))
    tried(call, work, "shd/shd_test.h5", content, ("data", "check", "shd", "--root", "shd", "--set", "frames=1"))


@inputs(40)
@given(content=st.binary(max_size=80) | hostile.TEXTS.map(str.encode))
def test_modules(content, call, work):
    tried(call, work, "mine.py", content, ("profile", "mine:Net", "--input-shape", "1,8,8"))


MODULE = (
    Path(odd_values.__file__).read_text(encoding="utf-8")
    + """
import json
from pathlib import Path

from torch import nn


class Samples:
    def __init__(self, count, faults):
        self.count, self.faults = count, faults

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        sample = [torch.rand(6, generator=generator), index % 3]
        for kind, place in self.faults.get(str(index), []):
            if place > 2:
                return VALUES[kind]()
            sample[place:place + 1] = [VALUES[kind]()]
        return tuple(sample)


def data():
    faults = json.loads(Path("faults.json").read_text())
    counts = {"train": 64, "validation": 48, "test": 49}
    return {part: Samples(count, faults.get(part, {})) for part, count in counts.items()}


class Net(nn.Module):
    calls = 0

    def __init__(self, classes):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, classes)
        self.fault = json.loads(Path("faults.json").read_text()).get("network")

    def forward(self, x):
        Net.calls += 1
        logits = self.last(self.first(x).relu())
        if self.fault is None or Net.calls <= self.fault["after"]:
            return logits
        kind = self.fault["kind"]
        return {
            "tuple": lambda: (logits, logits),
            "dict": lambda: {"logits": logits},
            "transposed": lambda: logits.T,
            "fewer": lambda: logits[:1],
            "wider": lambda: torch.cat([logits, logits], 1),
            "detached": lambda: logits.detach(),
            "nan logits": lambda: logits * float("nan"),
            "huge logits": lambda: logits * 3e38,
            "half logits": lambda: logits.half(),
            "integer logits": lambda: logits.argmax(1),
        }.get(kind, VALUES.get(kind))()
"""
)
VALUES = sorted(odd_values.VALUES)
OUTPUTS = [line.split('"')[1] for line in MODULE.splitlines() if line.startswith('            "')]
PARTS = {"train": 64, "validation": 48, "test": 49}
FAULTS = st.fixed_dictionaries(
    {},
    optional={
        part: st.dictionaries(
            st.integers(0, count - 1).map(str),
            st.lists(st.tuples(st.sampled_from(VALUES), st.integers(0, 3)), min_size=1, max_size=2),
            min_size=1,
            max_size=3,
        )
        for part, count in PARTS.items()
    },
)
RUN = (
    *("run", "--model", "odd:Net", "--data", "odd:data", "--budget", "2x", "--trials", "1", "--quiet", "--out", "run"),
    *("--set", "training.epochs=1", "--set", "training.full_precision_epochs=1", "--set", "search.uniform_trials=1"),
)


CALLS = 33
"""How often a run calls the network."""


def ran(call, work, faults, *commands):
    """Commands on a network and data with these faults, in a folder without a run."""
    (work / "odd.py").write_text(MODULE)
    (work / "faults.json").write_text(json.dumps(faults))
    try:
        for command in commands:
            harmless(call(*command, cwd=work))
    finally:
        shutil.rmtree(work / "run", ignore_errors=True)


@inputs(25)
@given(faults=FAULTS)
def test_samples(faults, call, work):
    ran(call, work, faults, ("data", "check", "odd:data"))


@inputs(6)
@given(faults=FAULTS)
def test_samples_in_a_run(faults, call, work):
    ran(call, work, faults, RUN)


@inputs(12)
@given(kind=st.sampled_from(VALUES + OUTPUTS), after=st.integers(0, CALLS))
def test_networks_in_a_run(kind, after, call, work):
    ran(call, work, {"network": {"kind": kind, "after": after}}, RUN)


@pytest.fixture(scope="module")
def plan(call, work):
    """A folder with a finished run of the network and data without faults."""
    folder = work / "finished"
    folder.mkdir()
    (folder / "odd.py").write_text(MODULE)
    (folder / "faults.json").write_text("{}")
    assert call(*RUN, cwd=folder).returncode == 0
    return folder


PLAN = "run/plan.json", "--trust"
COMMANDS = st.sampled_from(
    [
        ("evaluate", *PLAN, "--split", "test"),
        ("train", *PLAN, "--epochs", "1", "--quiet", "--output", "trained.json"),
        ("deploy", *PLAN, "--output", "odd.packed"),
        ("deploy", *PLAN, "--format", "onnx", "--output", "odd.onnx"),
        ("deploy", *PLAN, "--format", "hub-folder", "--output", "hub"),
        ("profile", "odd:Net", "--data", "odd:data"),
    ]
)


@inputs(12)
@given(kind=st.sampled_from(VALUES + OUTPUTS), after=st.integers(0, 12), command=COMMANDS)
def test_networks_with_a_plan(kind, after, command, call, plan):
    (plan / "faults.json").write_text(json.dumps({"network": {"kind": kind, "after": after}}))
    harmless(call(*command, cwd=plan))
    shutil.rmtree(plan / "hub", ignore_errors=True)
    for file in plan.glob("trained*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


@inputs(12)
@given(faults=FAULTS, command=COMMANDS)
def test_samples_with_a_plan(faults, command, call, plan):
    (plan / "faults.json").write_text(json.dumps(faults))
    harmless(call(*command, cwd=plan))
    shutil.rmtree(plan / "hub", ignore_errors=True)
    for file in plan.glob("trained*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
