"""A loss, or a network, that goes wrong late, in any part of a run: one line, nothing lost, and the run goes on."""

import json

import pytest
import torch
from bars import network, parts
from torch import nn
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.errors import InputError
from bitsearch.runs.folder import RunFolder

pytestmark = pytest.mark.training

KINDS = {
    "not a number": (lambda loss: loss * torch.nan, "the training loss is nan in epoch"),
    "infinite": (lambda loss: loss * torch.inf, "the training loss is inf in epoch"),
    "below zero": (lambda loss: loss - 1e6, "a loss is never below zero (task.loss)"),
}


class Fault:
    """When the loss goes wrong: at this call with a gradient, and at all later ones; and how often it was called."""

    at, kind, calls = float("inf"), "not a number", 0


def loss(outputs, targets):
    each = nn.functional.cross_entropy(outputs, targets[:, 0].long(), reduction="none")
    if not torch.is_grad_enabled():
        return each
    Fault.calls += 1
    return KINDS[Fault.kind][0](each) if Fault.calls > Fault.at else each


def error(outputs, targets):
    return (outputs.argmax(1) != targets[:, 0]).float()


def numbered():
    return [TensorDataset(part.tensors[0], part.tensors[1].float().unsqueeze(1)) for part in parts()]


def search(out, fault=float("inf"), kind="not a number", **changes):
    Fault.at, Fault.kind, Fault.calls = fault, kind, 0
    task = {"name": "own", "loss": loss, "metric": error, "direction": "down", "unit": "errors"}
    training = {"full_precision_epochs": 3, "batch_size": 32}
    settings = {"trials": 1, "epochs": 4, "device": "cpu", "training": training, "task": task, **changes}
    return bitsearch.search(network(), numbered(), "4x", out=out, **settings)


def events(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(plans, calls of the loss)."""
    result = search(tmp_path_factory.mktemp("undisturbed") / "run")
    return [(plan.layers, plan.measured) for plan in result.folder.plans()], Fault.calls


@pytest.mark.parametrize("kind", KINDS)
def test_full_precision_that_goes_wrong_ends_in_one_line_and_goes_on(kind, undisturbed, tmp_path):
    with pytest.raises(InputError) as caught:
        # The first call is that of a check, three batches are an epoch, and this is the very last one.
        search(tmp_path / "run", fault=1 + 2 * 3 + 2, kind=kind)
    assert KINDS[kind][1] in str(caught.value)
    assert "3 of 3 (full precision)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "plan.json").exists()
    again = search(tmp_path / "run")
    assert [(plan.layers, plan.measured) for plan in again.folder.plans()] == undisturbed[0]


@pytest.mark.parametrize("phase", ["search", "fine-tune"])
def test_a_trial_that_goes_wrong_fails_alone(phase, undisturbed, tmp_path):
    batches = {"search": 1, "fine-tune": 5}[phase]
    with pytest.raises(InputError, match="failed, and the study stops: the training loss is -") as caught:
        search(tmp_path / "run", fault=1 + 3 * 3 + batches, kind="below zero", trials=4)
    assert "\n" not in str(caught.value)
    reasons = [event["reason"] for event in events(tmp_path / "run") if event["event"] == "failed"]
    assert f"({phase})" in reasons[0]
    assert all("a loss is never below zero" in reason for reason in reasons)
    result = search(tmp_path / "run", trials=4)
    assert result.best.met
    assert RunFolder(tmp_path / "run").settings.full_precision is not None


class Weary(nn.Module):
    """A network whose weights become NaN at the end of a training, so that no loss shows it."""

    def __init__(self, after):
        super().__init__()
        self.network, self.after, self.calls = network(), after, 0

    def forward(self, x):
        self.calls += self.training
        outputs = self.network(x)
        return outputs if self.training or self.calls < self.after else outputs * torch.nan


def test_a_network_without_outputs_is_no_plan(tmp_path):
    settings = {"trials": 1, "epochs": 4, "device": "cpu", "training": {"batch_size": 32, "full_precision_epochs": 0}}
    with pytest.raises(InputError, match="the network returns NaN for 48 of 48 samples; lower training") as caught:
        bitsearch.search(Weary(6), parts(), "4x", out=tmp_path / "run", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "plan.json").exists()
