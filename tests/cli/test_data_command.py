import json

import pytest
from image_files import write_cifar10, write_cifar100, write_imagenet, write_mnist

from bitsearch.cli import main
from bitsearch.data import DATA_SETS


@pytest.fixture
def call(monkeypatch):
    """Run ``bitsearch data …``; gives the exit code."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["bitsearch", "data", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def test_the_list_has_every_data_set_and_where_it_is_from(call, capsys):
    assert call("list") == 0
    printed = capsys.readouterr().out
    for name, entry in DATA_SETS.items():
        assert name in printed
        assert entry.summary in printed
        assert entry.source in printed
        assert all(file in printed for file in entry.files)
    assert "cifar10  3×32×32, 10 classes, 50,000 train and 10,000 test samples" in printed
    assert "digits  1×8×8, 10 classes, 1,797 samples" in printed
    assert "imagenet  3×224×224, 1,000 classes, 1,281,167 train and 50,000 test samples" in printed


def test_a_complete_data_set_gets_a_table_and_a_line(call, capsys):
    assert call("check", "digits") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "1,077" in shown.out
    assert "104 to 109" in shown.out
    assert shown.out.endswith("digits: the counts are as published\n")


def test_options_are_set_and_problems_are_one_line_each(call, capsys, tmp_path):
    write_imagenet(tmp_path)
    options = ("--root", tmp_path, "--set", "size=16", "--set", "workers=0", "--set", "validation_share=0.4")
    assert call("check", "imagenet", *options) == 2
    shown = capsys.readouterr()
    assert "imagenet, 3×16×16 each" in shown.out
    counts = [line.split("│")[1:-1] for line in shown.out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in counts] == [
        ["train", "18", "3", "6"],
        ["validation", "12", "3", "4"],
        ["test", "9", "3", "3"],
    ]
    assert shown.err.splitlines() == [
        "bitsearch: imagenet: training and validation split: 3 classes, not 1000",
        "bitsearch: imagenet: test split: 3 classes, not 1000",
    ]


def test_a_folder_of_ones_own_has_nothing_to_compare_with(call, capsys, tmp_path):
    write_imagenet(tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    assert call("check", "image_folder", "--root", tmp_path, "--set", "size=8") == 0
    printed = capsys.readouterr().out
    assert printed.endswith("image_folder: loaded; nothing is published to compare it with\n")


def test_targets_of_another_task_get_their_range(call, capsys, tmp_path, monkeypatch):
    (tmp_path / "pitches.py").write_text(PITCHES)
    monkeypatch.syspath_prepend(tmp_path)
    assert call("check", "pitches:data", "--task", "regression") == 0
    shown = capsys.readouterr()
    assert (shown.err, "classes" in shown.out) == ("", False)
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line] == [
        ["train", "3", "-0.5 to 1.25"],
        ["validation", "2", "2"],
    ]
    assert shown.out.endswith("pitches:data: loaded; nothing is published to compare it with\n")
    assert call("check", "pitches:data") == 2
    assert "its label is a float32 tensor of shape (); give the class's number" in capsys.readouterr().err


PITCHES = """
import torch
from torch.utils.data import TensorDataset

def data():
    targets = {"train": torch.tensor([0.0, -0.5, 1.25]), "validation": torch.full((2,), 2.0)}
    return {part: TensorDataset(torch.zeros(len(values), 4), values) for part, values in targets.items()}
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--task", "regresion"], "no task 'regresion'; known: classification, multi_label, segmentation"),
        (["cifar10"], "cifar10: no root given; set root in data_options"),
        (["cifar10", "--root", "nowhere"], "download and unpack cifar-10-python.tar.gz from https://www.cs.toronto"),
        (["cifar10", "--set", "root"], "'root' sets nothing; give KEY=VALUE"),
        (["cifar10", "--set", "limit=5"], "every sample is counted; leave limit out"),
        (["cifar11"], "no data set named 'cifar11'; known: cifar10, cifar100, cifar10_dvs, digits"),
    ],
)
def test_wrong_input_ends_with_one_line_and_exit_code_2(call, capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert call("check", *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_corrupt_files_are_named(call, capsys, tmp_path):
    file = write_cifar10(tmp_path) / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(b"<html>not found</html>")
    assert call("check", "cifar10", "--root", tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    assert f"cannot read '{file}' (" in lines[-1]


@pytest.mark.parametrize(
    ("space", "write", "width"),
    [
        ("cifar10", write_cifar10, 4),
        ("cifar100", write_cifar100, 4),
        ("mnist", write_mnist, 4),
        ("fashion_mnist", lambda root: write_mnist(root, "FashionMNIST"), 4),
    ],
)
def test_the_shipped_spaces_take_a_root(monkeypatch, capsys, tmp_path, space, write, width):
    write(tmp_path)
    settings = [f"data_options.root={tmp_path}", "data_options.limit=4", f"network_options.width={width}"]
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    for arguments, code in (([], 2), (overrides, 0)):
        monkeypatch.setattr("sys.argv", ["bitsearch", "profile", space, "--json", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        printed = capsys.readouterr()
        if code:
            assert "no root given; set root in data_options" in printed.err
        else:
            layers = json.loads(printed.out)["layers"]
            assert layers[-1]["weights"] == 4 * width * DATA_SETS[space].classes
