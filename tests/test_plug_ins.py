"""Networks, data, targets and metrics of an installed package, found by its entry points."""

import sys
from importlib import resources

import pytest
import torch

import bitsearch
from bitsearch.cli import main
from bitsearch.cost import METRICS, Target
from bitsearch.cost.budget import check_metric
from bitsearch.errors import InputError

MODULE = """
import torch
from torch.utils.data import TensorDataset
import bitsearch

def net(classes=2, width=3):
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, classes))

def data():
    part = lambda count: TensorDataset(torch.rand(count, 4), torch.arange(count) % 2)
    return {"train": part(20), "validation": part(8), "test": part(8)}

def area(geometry, bits):
    return geometry.macs * bits.weights

AREA = bitsearch.DeclaredMetric(function="plugged:area", unit="um2", description="Area.")
CHIP = TOML
NUMBER = 3
"""
POINTS = """
[bitsearch.networks]
plugged_net = plugged:net
plugged_number = plugged:NUMBER
plugged_gone = plugged:gone
plugged_broken = plugged_broken:net
[bitsearch.data]
plugged_data = plugged:data
[bitsearch.targets]
plugged_chip = plugged:CHIP
plugged_number = plugged:NUMBER
[bitsearch.metrics]
plugged_area = plugged:AREA
plugged_number = plugged:NUMBER
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package; its module is imported by nobody yet."""
    toml = resources.files("bitsearch").joinpath("cost", "targets", "generic.toml").read_text(encoding="utf-8")
    toml = toml.replace('name = "generic"', 'name = "plugged_chip"', 1)
    (tmp_path / "plugged.py").write_text(MODULE.replace("TOML", repr(toml)), encoding="utf-8")
    (tmp_path / "plugged_broken.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(METRICS)
    yield tmp_path
    METRICS.clear()
    METRICS.update(before)
    sys.modules.pop("plugged", None)


def test_nothing_is_imported_before_it_is_named(package):
    with pytest.raises(InputError, match=r"no network named 'plugged_nett'; known: .*plugged_net,"):
        bitsearch.make_network("plugged_nett", {}, input_shape=(4,), classes=2)
    bitsearch.make_network("digits_cnn", {"width": 2}, input_shape=(1, 8, 8), classes=10)
    assert "plugged" not in sys.modules


def test_networks_and_data_by_name(package):
    network = bitsearch.make_network("plugged_net", {"width": 5}, input_shape=(4,), classes=2)
    assert network(torch.rand(3, 4)).shape == (3, 2)
    splits = bitsearch.load_data("plugged_data", {}, split_seed=0)
    assert (splits.input_shape, splits.classes, len(splits.test)) == ((4,), 2, 8)


def test_a_target_by_name(package):
    assert Target.load("plugged_chip").name == "plugged_chip"
    assert Target.load("plugged_chip").weight_bits == Target.load("generic").weight_bits


def test_a_metric_by_name(package):
    assert "plugged_area" not in METRICS
    assert check_metric("plugged_area", Target.load("generic")) == "plugged_area"
    assert METRICS["plugged_area"].unit == "um2"
    network = bitsearch.make_network("plugged_net", {}, input_shape=(4,), classes=2)
    quantized = bitsearch.quantize(network, torch.rand(5, 4))
    # The first layer's 12 weights have 8 bits; 3 are left for the second one's 6.
    assert quantized.budget("plugged_area=119").limit == 119
    assert quantized.project("plugged_area=119")["2"].weight_bits == 3
    assert quantized.costs["plugged_area"] == 12 * 8 + 6 * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plugged_number", "'plugged_number' of a package is int, which cannot be called"),
        ("plugged_gone", r"of package plugged cannot be loaded \(plugged:gone\).*update or uninstall"),
        ("plugged_broken", "no_such_module_at_all.*update or uninstall the package"),
    ],
)
def test_a_broken_plug_in_is_one_line(name, message, package):
    with pytest.raises(InputError, match=message) as refused:
        bitsearch.make_network(name, {}, input_shape=(4,), classes=2)
    assert "\n" not in str(refused.value)


def test_other_kinds_say_what_they_are(package):
    with pytest.raises(InputError, match="is no TOML text, but int"):
        Target.load("plugged_number")
    with pytest.raises(InputError, match=r"is int, not a bitsearch\.DeclaredMetric"):
        check_metric("plugged_number", Target.load("generic"))


def test_two_packages_with_one_name_are_refused(package):
    other = package / "second-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 1.0\n", encoding="utf-8")
    (other / "entry_points.txt").write_text("[bitsearch.networks]\nplugged_net = second:net\n", encoding="utf-8")
    with pytest.raises(InputError, match="packages plugged, second each have a network 'plugged_net'"):
        bitsearch.make_network("plugged_net", {}, input_shape=(4,), classes=2)


def test_lists_and_completion_have_what_packages_declare(package, monkeypatch, capsys):
    from bitsearch.cli.terminal import completion

    assert completion.complete_network("plugged_n") == ["plugged_net", "plugged_number"]
    assert completion.complete_data("plug") == ["plugged_data"]
    assert completion.complete_target("plugged_c") == ["plugged_chip"]
    assert completion.complete_metric("plugged_a") == ["plugged_area"]
    assert "plugged" not in sys.modules
    lines = {}
    for listed in ("networks", "data", "targets"):
        monkeypatch.setattr(sys, "argv", ["bitsearch", listed, "list"])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        lines[listed] = capsys.readouterr().out
    assert "plugged_net  of package plugged (plugged:net)" in lines["networks"]
    assert "plugged_data  of package plugged (plugged:data)" in lines["data"]
    assert "plugged_chip" in lines["targets"]
    assert "is no TOML text, but int" in lines["targets"]
    assert "generic" in lines["targets"]
