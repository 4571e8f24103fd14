"""Every library that reads NIR runs a packed network beside the integer replay, through the real command.

Weights and steps are powers of two, and nothing decays, so that floats are exact: not one spike may differ.
"""

import re
from pathlib import Path

import pytest

from bitsearch.plan import Baseline, BitPlan, LayerPlan, NeuronSettings, Provenance

pytestmark = [pytest.mark.training, pytest.mark.processes]

ROOT = Path(__file__).parents[2]
FRAMES = 4
NETWORKS = """
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


class Whole(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.conv1 = layer.Conv2d(2, 4, 4, stride=2, bias=False)
        self.fire, self.pool = neuron.IFNode(v_reset=None), layer.AvgPool2d(2)
        self.conv2 = layer.Conv2d(4, 8, 2, bias=False)
        self.flatten, self.linear = layer.Flatten(), layer.Linear(8, classes, bias=False)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.linear(self.flatten(self.conv2(self.pool(self.fire(self.conv1(x))))))


class Loop(Whole):
    def __init__(self, input_shape, classes):
        super().__init__(input_shape, classes)
        functional.set_step_mode(self, "s")

    def forward(self, x):
        return torch.stack([super(Loop, self).forward(frame) for frame in x])
"""
SPACE = """
schema_version = 1
name = "{form}"
network = "mine:{form}"
data = "digits_events"
[data_options]
frames = 4
"""
LIBRARIES = {
    "spikingjelly": ("Loop", NeuronSettings(threshold="full")),
    "snntorch": ("Whole", NeuronSettings(reset="zero", threshold="full")),
    "norse": ("Loop", NeuronSettings(reset="zero", threshold="full")),
    "sinabs": ("Whole", NeuronSettings(threshold="full")),
}
"""By what ``--with`` takes, (the network's form, neurons that the library has)."""


def plan_of(form, settings):
    bits = {
        "weight_bits": 4,
        "spike_bits": (1,) * FRAMES,
        "time_steps": FRAMES,
        "frames": FRAMES,
        "spike_granularity": "layer",
        "step_sizes": "power_of_two",
        "loop": "frames" if form == "Loop" else None,
        "neuron": settings,
    }
    return BitPlan(
        space=form,
        network=f"mine:{form}",
        budget=(),
        baseline=Baseline(weight_bits=8, spike_bits=1, time_steps=FRAMES, costs={}),
        layers={
            "conv1": LayerPlan(**bits, neurons=()),
            "conv2": LayerPlan(**bits, neurons=("fire",), pooled=True, in_place=True),
            "linear": LayerPlan(**bits, neurons=()),
        },
        costs={},
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="by hand"),
    )


@pytest.fixture(scope="module")
def folder(call, tmp_path_factory):
    """The networks, and weights that both forms of them have."""
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "mine.py").write_text(NETWORKS, encoding="utf-8")
    for form in ("Whole", "Loop"):
        (folder / f"{form}.toml").write_text(SPACE.format(form=form), encoding="utf-8")
    plan_of("Whole", NeuronSettings(threshold="full")).save(folder / "plan.json")
    trained = call("train", "plan.json", "--epochs", 1, "--space", "Whole.toml", "--trust", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return folder


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_spike_of_the_whole_test_split_differs(library, folder, call, monkeypatch):
    python = ROOT / ".venv-consumers" / library / "bin" / "python"
    if library in ("norse", "sinabs"):
        if not python.is_file():
            pytest.skip(f"{library} is not installed; make consumers installs it")
        monkeypatch.setenv("NIR_PYTHON", str(python))
    form, settings = LIBRARIES[library]
    space, weights = ("--space", f"{form}.toml", "--trust"), "plan.trained.safetensors"
    plan_of(form, settings).save(folder / f"{library}.json")
    packed = call("deploy", f"{library}.json", weights, "-o", f"{library}.packed", *space, cwd=folder)
    assert packed.returncode == 0, packed.stderr
    finished = call("verify", f"{library}.packed", "--weights", weights, "--with", library, *space, cwd=folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    line = finished.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"\w+: 360 of 360 samples are predicted as by the integer replay; 0 of (\d+) spikes differ", line
    )
    assert found, line
    # A stride of 2 makes 2 × 12 × 12 inputs 4 × 5 × 5 currents.
    assert int(found[1]) >= 360 * FRAMES * (2 * 12 * 12 + 4 * 5 * 5)
