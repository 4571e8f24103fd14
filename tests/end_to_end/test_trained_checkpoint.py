"""From a trained SpikingJelly network's checkpoint to a plan by one command, which trains nothing in full precision."""

import hashlib
import importlib

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.utils.data import DataLoader

from bitsearch.runs.folder import RunFolder

pytestmark = pytest.mark.training

NETWORK = """
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn


class CSNN(nn.Module):
    def __init__(self, input_shape, classes, steps=2):
        super().__init__()
        self.steps = steps
        self.layers = nn.Sequential(
            layer.Conv2d(input_shape[0], 6, 3, padding=1, bias=False, step_mode="m"),
            layer.BatchNorm2d(6, step_mode="m"),
            neuron.IFNode(surrogate_function=surrogate.ATan(), step_mode="m"),
            layer.Conv2d(6, 6, 3, stride=2, padding=1, step_mode="m"),
            neuron.IFNode(surrogate_function=surrogate.ATan(), step_mode="m"),
            layer.Flatten(step_mode="m"),
            layer.Linear(6 * 16, classes, step_mode="m"),
        )

    def forward(self, x):
        return self.layers(x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)).mean(0)
"""
DATA = """
import torch
from torch.utils.data import TensorDataset


def part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.randn(count, 1, 8, 8, generator=generator)
    images[labels == 0, :, 3] += 1
    images[labels == 1, :, :, 4] += 1
    return TensorDataset(images, labels)


def bars():
    return part(96, 0), part(48, 1), part(48, 2)
"""
RECIPE = "training.optimizer=sgd", "training.momentum=0.9", "training.learning_rate=0.05", "task.label_smoothing=0.1"


def trained(work):
    """(checkpoint, validation accuracy) of the network, as its user trains and measures it without bitsearch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(work)
        nets, data = importlib.import_module("checkpoint_nets"), importlib.import_module("checkpoint_data")
    torch.manual_seed(0)
    network, (train, validation, _) = nets.CSNN((1, 8, 8), 3), data.bars()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(12):
        for images, labels in DataLoader(train, 32, shuffle=True, generator=torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            loss(network(images), labels).backward()
            optimizer.step()
            functional.reset_net(network)
    checkpoint = work / "csnn.pth"
    torch.save({"epoch": 12, "model_state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    images, labels = validation.tensors
    with torch.no_grad():
        accuracy = (network.eval()(images).argmax(1) == labels).double().mean().item()
    return checkpoint, accuracy


def test_one_command_goes_from_a_checkpoint_to_a_plan(call, tmp_path):
    (tmp_path / "checkpoint_nets.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "checkpoint_data.py").write_text(DATA, encoding="utf-8")
    checkpoint, accuracy = trained(tmp_path)
    assert accuracy > 0.9
    own = ("--model", "checkpoint_nets:CSNN", "--data", "checkpoint_data:bars", "--weights", checkpoint.name)
    short = ("training.epochs=2", "search.uniform_trials=1", *RECIPE)
    settings = [word for setting in short for word in ("--set", setting)]
    ended = call("run", *own, *settings, "--trials", "1", "--budget", "4x", "--out", "run", "--quiet", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    run = RunFolder.open(tmp_path / "run")
    space = run.settings.space
    assert (space.training.full_precision_epochs, space.training.optimizer) == (0, "sgd")
    assert space.task.label_smoothing == 0.1
    assert not any(event.get("phase") == "full precision" for event in run.log())
    assert run.settings.full_precision.validation == pytest.approx(accuracy)
    assert run.settings.weights_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    chosen = run.chosen()
    assert chosen.met
    assert chosen.accuracy.validation > 0.6
