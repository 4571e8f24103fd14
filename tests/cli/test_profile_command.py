import csv
import json
import re

import pytest

from bitsearch.cli import main
from bitsearch.cost import CostModel, Target, trace
from bitsearch.data import load_data
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.models import make_network
from bitsearch.plan import Baseline, BitPlan, Provenance, UniformBits
from bitsearch.runs.rebuild import rebuild
from bitsearch.train.evaluate import measure_activity


@pytest.fixture
def call(monkeypatch):
    """Run ``bitsearch profile …``; gives the exit code."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["bitsearch", "profile", *arguments])
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def digits_model():
    data = load_data("digits", {}, split_seed=0)
    network = make_network("digits_cnn", {"width": 16}, input_shape=data.input_shape, classes=data.classes)
    return CostModel(trace(network, data.train[:8][0]))


def test_a_space_is_profiled_at_its_baseline(call, capsys):
    assert call("digits", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    model = digits_model()
    assert shown["target"] == "generic"
    assert [row["layer"] for row in shown["layers"]] == [layer.name for layer in model.layers]
    # The first layer keeps its own w8 s8 T1, all others get the baseline's w8 s4 T2.
    assert [(row["weight_bits"], row["spike_bits"]) for row in shown["layers"]] == [(8, "8")] + [(8, "4 4")] * 4
    assert sum(row["s_ace"] for row in shown["layers"]) == shown["totals"]["s_ace"]
    assert shown["totals"]["macs"] == sum(layer.macs for layer in model.layers)


def test_the_limits_of_a_target_stand_beside_what_the_bits_take(call, capsys, tmp_path):
    file = tmp_path / "chip.toml"

    def shown(weight_bytes, *options):
        file.write_text(
            Target.template("chip")
            .replace("#[memory]", "[memory]")
            .replace('#weight_bytes = "64KiB"', f'weight_bytes = "{weight_bytes}"')
            .replace('#"memory.weight_bytes"', '"memory.weight_bytes"'),
            encoding="utf-8",
        )
        assert call("digits", "--target", str(file), *options) == 0
        return capsys.readouterr().out.replace("\xa0", " ")

    assert "target chip: Weight memory 33.5 KiB of at most 64 KiB\n" in shown("64KiB")
    assert "of at most 32 KiB, which a search meets with fewer bits\n" in shown("32KiB")
    assert re.search(r"of at most 1 KiB, which no bits meet: the fewest take \d\.\d+ KiB\n", shown("1KiB"))
    limits = {size: json.loads(shown(size, "--json"))["limits"] for size in ("64KiB", "32KiB")}
    assert limits["64KiB"] == {"weight_memory": {"limit": 65536, "met": True}}
    assert limits["32KiB"] == {"weight_memory": {"limit": 32768, "met": False}}


def test_a_network_that_exceeds_a_limit_is_refused_with_the_layer(call, capsys):
    for arguments in (["digits"], ["digits_cnn", "--input-shape", "1,8,8"]):
        assert call(*arguments, "--target", "xylo_2") == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1
        assert (
            "layer 'conv1' is a convolution layer, but the hardware target 'xylo_2' allows linear layers" in printed.err
        )


@pytest.mark.filterwarnings("ignore:spikes have 1 bit")
@pytest.mark.parametrize("name", ["digits", "resnet20"])
def test_spikes_and_time_steps_are_plain_options(name, call, capsys):
    assert call(name, "--spikes", "binary", "--time-steps", "3", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["layers"]
    # The first layer of a space reads the data; that of a bare network gets the bits of all others.
    assert {(row["weight_bits"], row["spike_bits"]) for row in rows[1:]} == {(8, "1 1 1")}


def test_the_table_and_the_file_hold_the_same(call, capsys, tmp_path):
    assert call("resnet20", "--input-shape", "3,16,16", "--csv", str(tmp_path / "costs.csv")) == 0
    screen = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "costs.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 22
    for row in rows:
        assert row["layer"] in screen
    assert "Energy, estimated" in screen
    assert sum(float(row["share.s_ace"]) for row in rows) == pytest.approx(1)


def test_a_plan_gives_the_bits(call, capsys, tmp_path):
    model = digits_model()
    bits = UniformBits(weight_bits=2, spike_bits=3, time_steps=1)
    layers = model.uniform(bits, None)
    plan = BitPlan(
        space="digits",
        network="digits_cnn",
        budget=(),
        baseline=Baseline(**bits.model_dump(), costs={}),
        layers=layers,
        costs={},
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command=""),
    )
    plan.save(tmp_path / "plan.json")
    assert call("digits", "--plan", str(tmp_path / "plan.json"), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["totals"]["s_ace"] == model.cost("s_ace", layers)
    assert {row["weight_bits"] for row in shown["layers"]} == {2}
    # A plan of another network.
    assert call("resnet20", "--plan", str(tmp_path / "plan.json")) == 2
    error = capsys.readouterr().err
    assert "does not name 'stem'" in error
    assert error.count("\n") == 1


def test_a_target_with_one_stream_of_spikes_ties_its_readers(call, capsys):
    assert call("resnet20", "--input-shape", "3,16,16", "--target", "neuromorphic", "--json") == 0
    rows = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    why = "one stream of spikes: the target's one_spike_stream"
    tie = f"blocks.3.conv1, blocks.3.shortcut.0: spike_bits time_steps ({why})"
    assert rows["blocks.3.conv1"]["tied"] == rows["blocks.3.shortcut.0"]["tied"] == tie
    assert rows["blocks.3.shortcut.0"]["working_memory"] == 0 < rows["blocks.3.conv1"]["working_memory"]
    assert rows["blocks.4.conv1"]["tied"] == ""


def test_settings_change_the_profiled_space(call, capsys):
    assert call("digits", "--json", "--set", "baseline.weight_bits=3", "--set", "network_options.width=8") == 0
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert [row["weight_bits"] for row in rows] == [8, 3, 3, 3, 3]
    assert rows[0]["weights"] == 9 * 8


def test_what_each_layer_may_get_is_shown_with_its_rule(call, capsys):
    arguments = (
        *("digits", "--layer", "conv[34]:weight_bits=[2, 4]", "--layer", "classifier:weight_bits=8"),
        *("--set", 'ties=[{match=["conv2", "conv3"], share=["spike_bits", "time_steps"]}]'),
    )
    assert call(*arguments) == 0
    screen = capsys.readouterr().out
    assert re.search(r"conv1 +│ 8 +│ 8 +│ 1 +│ first_layer", screen)
    assert re.search(r"conv2 +│ 1–8 +│ 1–8 +│ 1–4 +│ choices", screen)
    assert re.search(
        r"conv3 +│ 2, 4 +│ 1–8 +│ 1–4 +│ weight_bits: \[\[layers\]\] 'conv\[34\]'; spike_bits, time_steps", screen
    )
    assert "tied: conv2, conv3: spike_bits time_steps ([[ties]] 'conv2', 'conv3')" in screen
    assert call(*arguments, "--json") == 0
    rows = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    assert rows["classifier"]["allowed.weight_bits"] == "8"
    assert rows["conv4"]["allowed.weight_bits"] == "2, 4"
    assert rows["conv4"]["weight_bits"] == 4
    assert rows["classifier"]["rule"] == "weight_bits: [[layers]] 'classifier'; spike_bits, time_steps: choices"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--layer", "cnv*:weight_bits=8"], "[[layers]] match 'cnv*' is the name of no layer"),
        (["digits", "--layer", "conv2=8"], "layer 'conv2=8' sets nothing"),
        (["resnet20", "--layer", "conv2:weight_bits=8"], "changes a search space, and 'resnet20' is none"),
        (["resnet20", "--input-shape", "3,0,8"], "input shape is '3,0,8'"),
        (["nothing"], "no network named 'nothing'"),
        (["torchvision.models:resnet19"], "torchvision.models has no callable 'resnet19'"),
        (["digits", "--target", "nowhere"], "no hardware target named 'nowhere'"),
        (["digits", "--set", "network_options.depth=3"], "network 'digits_cnn' does not take"),
        (["resnet20", "--set", "baseline.weight_bits=4"], "changes a search space, and 'resnet20' is none"),
        (["digits", "--plan", "missing.json"], "no plan at missing.json"),
    ],
)
def test_bad_input_gets_one_line(call, capsys, arguments, words):
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("always:kept at 32 bits")
def test_a_network_of_ones_own_lists_what_keeps_32_bits(call, capsys, tmp_path, monkeypatch):
    (tmp_path / "profiled_network.py").write_text(
        "from torch import nn\n\n"
        "def make(*, input_shape, classes):\n"
        "    class Up(nn.ConvTranspose2d):\n"
        "        pass\n\n"
        "    up = Up(4, 2, 2, stride=2)\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), up, nn.Flatten(), nn.Linear(288, classes))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert call("profiled_network:make", "--input-shape", "1x8x8") == 0
    shown = capsys.readouterr()
    assert re.search(r"1 +│ Up +│ left as it is: a subclass of ConvTranspose2d", shown.out)
    assert shown.err == "bitsearch: kept at 32 bits: 1\n"


def test_a_network_of_ones_own_takes_options_and_its_shape_from_the_data(call, capsys):
    assert call("digits_cnn", "--data", "digits", "--model-arg", "width=4", "--json") == 0
    of_the_data = json.loads(capsys.readouterr().out)
    assert call("digits_cnn", "--input-shape", "1,8,8", "--model-arg", "width=4", "--json") == 0
    weights = [row["weights"] for row in json.loads(capsys.readouterr().out)["layers"]]
    assert weights == [row["weights"] for row in of_the_data["layers"]]
    assert weights[:2] == [1 * 4 * 9, 4 * 8 * 9]
    assert call("digits", "--model-arg", "width=4", "--json") == 0
    assert [row["weights"] for row in json.loads(capsys.readouterr().out)["layers"]] == weights
    assert call("torchvision.models:mobilenet_v2", "--model-arg", "num_classes=7", "--json") == 0
    assert json.loads(capsys.readouterr().out)["layers"][-1]["weights"] == 1280 * 7


def test_options_of_data_that_nobody_named(call, capsys):
    assert call("digits_cnn", "--data-arg", "root=here") == 2
    assert "'root=here' is an option of data that nobody named" in capsys.readouterr().err


def test_the_table_of_inputs_says_what_every_layer_reads(call, capsys, tmp_path, monkeypatch):
    (tmp_path / "loopnet.py").write_text(
        "from spikingjelly.activation_based import neuron\n"
        "from torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.lif, self.b = nn.Linear(3, 4), neuron.LIFNode(), nn.Linear(4, 2)\n\n"
        "    def forward(self, x):\n"
        "        return sum(self.b(self.lif(self.a(frame))) for frame in x)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert call("loopnet:Net", "--input-shape", "6,3", "--time-axis", "--classes", "2", "--csv", "costs.csv") == 0
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "│ b │ lif │ 6 │ 6, once a frame │" in printed
    rows = list(csv.DictReader((tmp_path / "costs.csv").read_text().splitlines()))
    assert [(row["reads"], row["gives_way"], row["frames"], row["loop"]) for row in rows] == [
        ("", "", "6", "frames"),
        ("lif", "lif", "6", "frames"),
    ]


def test_a_network_of_images_has_no_table_of_inputs(call, capsys):
    assert call("digits_cnn", "--input-shape", "1,8,8") == 0
    assert "Inputs" not in capsys.readouterr().out


def test_layers_with_one_weight_are_named(call, capsys, tmp_path, monkeypatch):
    (tmp_path / "network_with_one_weight.py").write_text(
        "from torch import nn\n"
        "def make(input_shape, classes):\n"
        "    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))\n"
        "    network[3].weight = network[1].weight\n"
        "    return network\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert call("network_with_one_weight:make", "--input-shape", "1,8,8", "--classes", "64") == 0
    assert "tied: 1, 3: weight_bits (one weight)" in capsys.readouterr().out


def test_other_energy_models_stand_beside_the_targets_table(call, capsys, finished_run):
    plan = str(finished_run.folder.path)
    arguments = ("digits", "--set", "network_options.width=4", "--plan", plan, "--target", "neuromorphic")
    models = ("--energy-model", "lemaire", "--energy-model", "spikesim")
    assert call(*arguments, *models) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out.replace("\xa0", " "))
    assert "target neuromorphic" in shown
    assert "lemaire: 32-bit integers at 45 nm" in shown
    assert "without linear layers (SpikeSim, IEEE TCAD 2023" in shown
    assert call(*arguments, *models, "--json") == 0
    energies = json.loads(capsys.readouterr().out)["energy_models"]
    assert list(energies["models"]) == ["lemaire", "spikesim"]
    lemaire = energies["models"]["lemaire"]
    assert lemaire["total"] == pytest.approx(lemaire["arithmetic"] + lemaire["memory"])
    # What is counted on another network is no opinion on this one.
    assert call("digits", "--plan", plan, "--energy-model", "lemaire") == 2
    assert "is of a network with other layers than the one to profile" in capsys.readouterr().err


def test_the_target_counts_the_spikes_of_the_same_samples(call, capsys, finished_run):
    arguments = ("digits", "--set", "network_options.width=4", "--plan", str(finished_run.folder.path))
    assert call(*arguments, "--target", "neuromorphic", "--energy-model", "spikesim", "--json") == 0
    energies = json.loads(capsys.readouterr().out)["energy_models"]
    network, task = rebuild(finished_run.folder.path / "plan.json", device="cpu")
    model = CostModel(trace(network=task.untrained, example_input=task.examples), target=Target.load("neuromorphic"))
    counted = QuantizedNetwork(network, model, task.rules, task.space.baseline)
    rates = measure_activity(counted, task.examples[:8])
    layers = BitPlan.load(finished_run.folder.path / "plan.json").layers
    assert energies["samples"] == 8
    assert energies["target"] == pytest.approx(model.cost("energy", layers, rates), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--energy-model", "lemair"], "--energy-model is 'lemair'; allowed: simple, lemaire, neuromc, spikesim; did"),
        (["--energy-model", "lemaire"], "counts the spikes of a trained network, and no plan is given; give --plan"),
        (["--energy-model", "lemaire", "--plan", "plan.json"], "plan.json lies in no run folder; give --plan, a plan"),
    ],
)
def test_an_energy_model_needs_a_name_and_a_plan_of_a_run(call, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call("digits", *arguments) == 2
    assert message in capsys.readouterr().err
