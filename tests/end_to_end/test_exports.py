"""Plans leave for other tools, through the real command."""

import re
import shutil

import nir
import onnx
import pytest
from c_compiler import needs_compiler
from refusal import refused

from bitsearch.deploy.formats import FORMATS
from bitsearch.plan import Baseline, BitPlan, LayerPlan, Provenance
from bitsearch.report import write_report
from bitsearch.runs.folder import RunFolder

pytestmark = pytest.mark.training

C_FILES = {"network.h", "network.c", "test_vectors.c", "Makefile", "cortex_m3.c", "cortex_m3.ld"}
NETWORK = """
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def net(input_shape, classes):
    made = nn.Sequential(
        layer.Flatten(),
        layer.Linear(2 * 12 * 12, 16, bias=False),
        layer.BatchNorm1d(16),
        neuron.LIFNode(tau=2.0, v_reset=None, decay_input=False),
        layer.Linear(16, classes),
    )
    functional.set_step_mode(made, "m")
    return made
"""

SPACE = """
schema_version = 1
name = "events"
network = "mine:net"
data = "digits_events"
[data_options]
frames = 4
"""


@pytest.fixture(scope="module")
def plan_file(finished_run):
    return finished_run.folder.chosen_file


def test_an_onnx_file_predicts_the_whole_test_split_as_the_network(call, plan_file, tmp_path):
    finished = call("deploy", plan_file, "--format", "onnx", "-o", "net.onnx", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert finished.stdout.startswith("net.onnx: 360 of 360 test samples are predicted as by the network")
    assert len(onnx.load(tmp_path / "net.onnx").graph.output) == 1


def test_a_published_folder_is_evaluated_where_it_lies(call, plan_file, tmp_path):
    shutil.copytree(plan_file.parent, tmp_path / "run")
    report = write_report(RunFolder.open(tmp_path / "run"))
    plan_file = tmp_path / "run" / plan_file.name
    first = call("deploy", plan_file, "--format", "hub-folder", "-o", "mine", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "choose a licence" in first.stdout
    assert (tmp_path / "mine" / "report.html").read_bytes() == report.read_bytes()
    weights = ("--weights", "weights.safetensors", "--space", "space.toml", "--split", "test")
    found = call("evaluate", "plan.json", *weights, cwd=tmp_path / "mine")
    assert found.stdout.startswith(f"test accuracy {BitPlan.load(plan_file).accuracy.test:.4f}\n"), found.stderr
    again = call("deploy", plan_file, "--format", "hub-folder", "-o", "mine", cwd=tmp_path)
    assert "never overwritten" in refused(again)


@needs_compiler
def test_the_c_of_a_plan_computes_the_whole_test_split_as_the_integer_replay(call, copied_run, monkeypatch):
    assert call("deploy", "run/plan.json", "-o", "run/net.packed", cwd=copied_run).returncode == 0
    finished = call("verify", "run/net.packed", "--with", "c", cwd=copied_run)
    assert finished.returncode == 0, finished.stderr
    line = finished.stdout.splitlines()[-1]
    assert re.fullmatch(r"C, compiled by \w+: 360 of 360 samples have the outputs of the integer replay", line)
    line = refused(call("verify", "run/net.packed", "--with", "nir", cwd=copied_run))
    assert (
        "--with is 'nir'; allowed: spikingjelly, snntorch, sinabs, norse, qonnx, qonnx-thresholds, hls4ml, c, akida"
        in line
    )
    monkeypatch.setenv("CC", "none-such")
    line = refused(call("verify", "run/net.packed", "--with", "c", cwd=copied_run))
    assert "CC is 'none-such', which is no program here" in line


def test_c_is_a_folder_that_says_its_sizes_beside_the_plans(call, plan_file, tmp_path):
    finished = call("deploy", plan_file, "--format", "c", "-o", "net", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    costs = BitPlan.load(plan_file).costs
    assert f"the plan: weight_memory {costs['weight_memory']:.0f} bytes" in finished.stdout
    assert {path.name for path in (tmp_path / "net").iterdir()} == C_FILES
    assert "never overwritten" in refused(call("deploy", plan_file, "--format", "c", "-o", "net", cwd=tmp_path))


def test_formats_that_do_not_fit_are_refused_in_one_line(call, plan_file, tmp_path):
    allowed = f"allowed: {', '.join(FORMATS)}"
    assert allowed in refused(call("deploy", plan_file, "--format", "x", cwd="/"))
    line = refused(call("deploy", plan_file, "--format", "nir", "-o", "net.nir", cwd=tmp_path))
    assert "layer 'conv1' cannot be expressed in NIR" in line
    assert "--share-steps is for" in refused(call("deploy", plan_file, "--share-steps", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_spiking_network_on_events_becomes_nir(call, tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "events.toml").write_text(SPACE, encoding="utf-8")
    layer = LayerPlan(weight_bits=4, spike_bits=(1,) * 4, time_steps=4, frames=4, decay=0.5)
    BitPlan(
        space="events",
        network="mine:net",
        budget=(),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=4, costs={}),
        layers={"1": layer, "4": layer},
        costs={},
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="by hand"),
    ).save(tmp_path / "plan.json")
    space = ("--space", "events.toml", "--trust")
    trained = call("train", "plan.json", "--epochs", 1, *space, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    arguments = ("deploy", "plan.trained.json", "plan.trained.safetensors", "--format", "nir", *space)
    finished = call(*arguments, "--share-steps", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    before = BitPlan.load(tmp_path / "plan.trained.json").accuracy.test
    assert f"test accuracy {before:.4f}, with shared steps 0." in finished.stdout
    assert isinstance(nir.read(tmp_path / "plan.trained.nir").nodes["4.neuron"], nir.LIF)
