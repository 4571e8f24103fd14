"""A user's own network and data, with nothing of bitsearch's in their files, through the real command."""

import json

import pytest
import torch
from refusal import refused
from safetensors.torch import load_file

from bitsearch.models import make_network
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder

pytestmark = pytest.mark.training

NEURONS = """
import torch
from torch import nn


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, above):
        ctx.save_for_backward(above)
        return (above >= 0).float()

    @staticmethod
    def backward(ctx, gradient):
        (above,) = ctx.saved_tensors
        return gradient / (1 + (3 * above) ** 2)


class Neuron(nn.Module):
    def forward(self, currents):
        potential, spikes = 0.0, []
        for current in currents:
            potential = potential + current
            spike = Fire.apply(potential - 1.0)
            potential = potential - spike
            spikes.append(spike)
        return torch.stack(spikes)
"""

NETWORK = """
from torch import nn

from .neurons import Neuron


class CSNN(nn.Module):
    def __init__(self, input_shape, classes, channels=4, steps=2):
        super().__init__()
        self.steps = steps
        self.conv1 = nn.Conv2d(input_shape[0], channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.neuron, self.pool = Neuron(), nn.MaxPool2d(2)
        self.head = nn.Linear(channels * (input_shape[1] // 4) ** 2, classes)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = norm(conv(x.flatten(0, 1))).unflatten(0, (self.steps, -1))
            x = self.pool(self.neuron(x).flatten(0, 1)).unflatten(0, (self.steps, -1))
        return self.head(x.flatten(0, 1).flatten(1)).unflatten(0, (self.steps, -1)).mean(0)


def of_two(channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def needs(classes, *, depth):
    return nn.Linear(depth, classes)
"""

DATA = """
from pathlib import Path

import torch
from torch.utils.data import TensorDataset, random_split


def bars(split_seed, count=240):
    generator = torch.Generator().manual_seed(split_seed)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.randn(count, 1, 8, 8, generator=generator)
    images[labels == 0, :, 3] += 1
    images[labels == 1, :, :, 4] += 1
    whole = TensorDataset(images, labels)
    return random_split(whole, [count - 80, 40, 40], generator=generator)


Path("imported").touch()
"""

SPACE = """
schema_version = 1
name = "mine"
network = "mypackage.nets:CSNN"
data = "mypackage.images:bars"
[network_options]
steps = 2
[training]
full_precision_epochs = 2
epochs = 2
[search]
trials = 1
uniform_trials = 1
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A working directory with the user's package and search space in it."""
    cwd = tmp_path_factory.mktemp("work")
    (cwd / "mypackage").mkdir()
    (cwd / "mypackage/__init__.py").touch()
    (cwd / "mypackage/neurons.py").write_text(NEURONS, encoding="utf-8")
    (cwd / "mypackage/nets.py").write_text(NETWORK, encoding="utf-8")
    (cwd / "mypackage/images.py").write_text(DATA, encoding="utf-8")
    (cwd / "mine.toml").write_text(SPACE, encoding="utf-8")
    return cwd


@pytest.fixture(scope="module")
def ran(call, work):
    """(working directory, run folder) of a run of the user's space with an option of the command line."""
    options = ("--model-arg", "channels=3", "--data-arg", "count=200")
    finished = call("run", "--space", "mine.toml", *options, "--out", "run", "--json", cwd=work)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["chosen"]["network"] == "mypackage.nets:CSNN"
    return work, RunFolder(work / "run")


def test_a_run_has_its_space_resolved_and_a_plan_of_the_users_layers(ran):
    cwd, folder = ran
    space = folder.settings.space
    assert (space.network_options, space.data_options) == ({"steps": 2, "channels": 3}, {"count": 200})
    plan = BitPlan.load(cwd / "run/plan.json")
    assert list(plan.layers) == ["conv1", "conv2", "head"]
    assert plan.met


def test_another_folder_needs_trust_before_a_plan_runs_code(call, ran):
    cwd, _ = ran
    accuracy = BitPlan.load(cwd / "run/plan.json").accuracy.test
    (cwd / "imported").unlink()
    line = refused(call("evaluate", "run/plan.json", "--split", "test", cwd=cwd))
    assert "network 'mypackage.nets:CSNN', data 'mypackage.images:bars'" in line
    assert "add --trust" in line
    assert not (cwd / "imported").exists()
    finished = call("evaluate", "run/plan.json", "--split", "test", "--trust", cwd=cwd)
    assert finished.stdout.startswith(f"test accuracy {accuracy:.4f}\n"), finished.stderr
    assert (cwd / "imported").exists()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("mypackage.nets:CNN", "mypackage.nets has no callable 'CNN'; it has: CSNN, of_two, needs"),
        ("mypackage.nets:needs", "needs depth, not given; set it in network_options or --model-arg"),
        ("mypackage.nets:of_two", "returns float32 [4, 2] for 4 samples of 3 classes; it must return logits"),
    ],
)
def test_a_wrong_network_ends_with_one_line_and_writes_nothing(call, work, model, said):
    arguments = ("--model", model, "--data", "mypackage.images:bars", "--model-arg", "channels=3")
    arguments = arguments[:4] if model.endswith("needs") else arguments
    assert f"network '{model}'" in (line := refused(call("run", *arguments, cwd=work)))
    assert said in line
    assert not (work / "reports").exists()


def test_trained_weights_are_full_precision_as_they_are(call, work):
    """From a checkpoint to a plan by one command; whoever goes on brings the same weights, wherever they lie."""
    fresh = make_fresh(work)
    torch.save({"state_dict": {f"module.{name}": value for name, value in fresh.items()}}, work / "trained.pth")
    options = ("--space", "mine.toml", "--data-arg", "count=200", "--set", "training.epochs=1", "--budget", "2x")
    run = ("run", *options, "--out", "from-weights", "--quiet")
    finished = call(*run, "--weights", "trained.pth", cwd=work)
    assert finished.returncode == 0, finished.stderr
    settings = RunFolder(work / "from-weights").settings
    kept = load_file(work / "from-weights/weights/full-precision.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in fresh.items())
    assert not any(event.get("phase") == "full precision" for event in RunFolder(work / "from-weights").log())
    page = (work / "from-weights/pareto.html").read_text(encoding="utf-8")
    assert f"trained.pth (SHA-256 {settings.weights_sha256[:12]}" in page
    (work / "trained.pth").rename(work / "moved.pth")
    # Its plan needs them no longer, and a run that goes on finds them by their content.
    assert call("evaluate", "from-weights/plan.json", "--trust", cwd=work).returncode == 0
    assert call(*run, "--weights", "moved.pth", cwd=work).returncode == 0
    torch.save({"state_dict": fresh}, work / "moved.pth")
    assert "a run with other weights to begin with" in refused(call(*run, "--weights", "moved.pth", cwd=work))


def make_fresh(work):
    """A state of the user's network as it could have been trained elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(work)
        network = make_network("mypackage.nets:CSNN", {"steps": 2}, input_shape=(1, 8, 8), classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network.state_dict()


def test_weights_of_another_network_end_with_one_line(call, work):
    state = {f"{name}s": value for name, value in make_fresh(work).items()}
    torch.save(state, work / "other.pth")
    line = refused(call("run", "--space", "mine.toml", "--weights", "other.pth", "--out", "other", cwd=work))
    assert "no 'conv1.weight' (it has 'conv1.weights')" in line
    assert not (work / "other").exists()


def test_no_training_without_weights_is_refused(call, work):
    line = refused(call("run", "--space", "mine.toml", "--set", "training.full_precision_epochs=0", cwd=work))
    assert "give their file with --weights" in line
