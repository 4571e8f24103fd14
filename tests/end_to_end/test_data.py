"""A run on data in files, through the real command."""

import json

import pytest
from image_files import write_mnist
from refusal import refused

from bitsearch.runs.folder import RunFolder

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def ran(call, tmp_path_factory):
    """(working directory, run folder) of a run on ``data`` in it, named by a relative root."""
    cwd = tmp_path_factory.mktemp("work")
    write_mnist(cwd / "data")
    settings = (
        "data_options.root=data",
        "data_options.limit=6",
        "network_options.width=4",
        "training.full_precision_epochs=1",
        "training.epochs=2",
        "search.uniform_trials=1",
    )
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    finished = call("run", "--space", "mnist", *overrides, "--trials", "1", "--json", cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return cwd, cwd / json.loads(finished.stdout)["run"]


def test_the_settings_are_in_the_run(ran):
    cwd, folder = ran
    settings = RunFolder.open(folder).settings
    assert settings.space.training.epochs == 2
    assert settings.space.network_options == {"width": 4}
    assert settings.space.data_options["root"] == str(cwd / "data")
    assert "--set data_options.root=data" in settings.command
    assert f'root = "{cwd / "data"}"' in (folder / "run.toml").read_text(encoding="utf-8")


def test_a_relative_root_is_found_from_another_directory(call, ran, tmp_path):
    _, folder = ran
    finished = call("evaluate", folder / "plan.json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(
        f"validation accuracy {RunFolder.open(folder).chosen().accuracy.validation:.4f}\n"
    )


def test_data_that_have_moved_are_named_and_can_be_pointed_to(call, ran, tmp_path):
    cwd, folder = ran
    (cwd / "data").rename(cwd / "moved")
    try:
        message = refused(call("evaluate", folder / "plan.json", cwd=tmp_path))
        assert f"mnist: no '{cwd / 'data' / 'MNIST' / 'raw' / 'train-images-idx3-ubyte.gz'}'; download" in message
        root = f"data_options.root={cwd / 'moved'}"
        pointed = call("deploy", folder / "plan.json", "-o", "packed", "--set", root, cwd=tmp_path)
        assert pointed.returncode == 0, pointed.stderr
    finally:
        (cwd / "moved").rename(cwd / "data")


def test_check_reads_the_files_and_says_what_is_wrong_with_them(call, ran):
    cwd, _ = ran
    finished = call("data", "check", "mnist", "--root", "data", cwd=cwd)
    assert finished.returncode == 2
    assert "mnist, 1×28×28 each" in finished.stdout
    *sums, train, test = finished.stderr.splitlines()
    assert [line.count("is not the published file: its MD5 sum is") for line in sums] == [1, 1, 1, 1]
    assert [train, test] == [
        "bitsearch: mnist: training and validation split: samples 10 of class 0, not 5,923 "
        "(other classes that differ: 9)",
        "bitsearch: mnist: test split: samples 3 of class 0, not 980 (other classes that differ: 9)",
    ]
