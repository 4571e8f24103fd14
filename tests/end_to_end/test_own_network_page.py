"""What docs/your-own-network.md shows is what works: its files as they stand, and its commands in their order."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from bitsearch.cli import main
from bitsearch.plan import BitPlan
from bitsearch.space import SearchSpace

PAGE = (Path(__file__).parents[2] / "docs/your-own-network.md").read_text(encoding="utf-8")
SHORT = ["training.full_precision_epochs=1", "training.epochs=1", "search.trials=1", "search.uniform_trials=1"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with the page's files and a folder of images in it."""
    for text in blocks("python"):
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("mynets", "mydata", "myloop"):
        sys.modules.pop(name, None)


def trained_network(work):
    """Leaves the weights that the page starts from."""
    module = ModuleType("mynets")
    exec((work / "mynets.py").read_text(encoding="utf-8"), vars(module))
    torch.save(module.CSNN((3, 32, 32), 2).state_dict(), work / "csnn.pth")


@pytest.mark.training
@pytest.mark.filterwarnings("ignore:the data have 8 frames:UserWarning")
def test_the_commands_run_in_their_order(work, monkeypatch, capsys):
    lines = [shlex.split(line) for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    trained_network(work)
    assert [line[1] for line in lines] == [
        *("profile", "run", "run", "run", "run", "export", "evaluate", "deploy", "profile", "run")
    ]
    printed = []
    for line in lines:
        shorter = [word for setting in SHORT for word in ("--set", setting)] if line[1] == "run" else []
        monkeypatch.setattr("sys.argv", [*line, *shorter])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        printed.append(out)
    plan = BitPlan.load(work / "plan.json")
    assert list(plan.layers) == ["features.0", "features.4", "classifier.1"]
    assert plan.met
    assert (work / "my-network" / "README.md").is_file()
    assert (work / "my-network" / "plan.json").is_file()
    assert printed[8].count("8, once a frame") == 3
    recurrent = BitPlan.load(work / "reports/loop/plan.json")
    assert recurrent.met
    assert {plan.loop for plan in recurrent.layers.values()} == {"frames"}
    assert {plan.time_steps for plan in recurrent.layers.values()} == {8}


def test_the_search_space_is_one():
    (text,) = blocks("toml")
    space = SearchSpace.from_toml(text)
    assert space.network_options == {"channels": 16, "T": 4}
    assert (space.training.full_precision_epochs, space.training.epochs) == (60, 30)


def test_the_files_know_nothing_of_bitsearch():
    assert all("bitsearch" not in text for text in blocks("python"))
