"""Training in two processes, and in half precision."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from learning import guessed
from tolerances import rounding
from torch import nn

from bitsearch.allocation.methods.adaptive import allocate_adaptively
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.fabric import make_fabric
from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

SCRIPT = Path(__file__).with_name("two_processes.py")
DOUBLE = (
    "fixed",
    "batch norm",
    "multi-step batch norm",
    "odd batches",
    "micro batches",
    "odd micro batches",
    "search",
    "search, straight through",
    "search by firing",
)
"""Cases in float64."""
SINGLE = ("batch norm, float32", "micro batches, float32", "search, float32", "search by firing, float32")
RECORDED = 2 * rounding(4)
"""Relative, of a recorded loss: up to three batches' are added up in float32, and two processes' sums once more."""
LARGEST_SUM = 2**13
"""Terms of the longest sum, a gradient's: over 64 samples, 64 pixels, two time steps."""
A_STEP = 1200 * 5e-3 * 2 * rounding(LARGEST_SUM, torch.float64)
"""What a step of Adam adds to a loss's difference: 1,200 parameters, each of which it moves by rate·g/(|g| + 1e-8). An
error e of g, whose terms' magnitudes come to about one, moves a parameter by rate·e/|g| and so the loss by rate·e, in
all by 1e-11; where g is as small as e the parameter may be anywhere, which does nothing to the loss."""
FIRST = 2 * rounding(9 + 6 * 9 + 6 * 9 + 32 + 64 * 16 + 10 + 64)
"""Relative, of a first loss in float32: the terms of all sums on the way to it, of four layers, the statistics of batch
norm, the classes and the samples."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By case: what one process came to, and what each of two did."""
    folder = tmp_path_factory.mktemp("found")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    running = [
        subprocess.Popen(
            [*launcher, str(SCRIPT), str(folder / name)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, launcher in (("one", [sys.executable]), ("two", torchrun))
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in running:
            # torchrun ends its own processes when it is asked to.
            process.terminate()
            process.communicate(timeout=40)
    one, *two = (json.loads((folder / name).read_text()) for name in ("one.0", "two.0", "two.1"))
    return {case: (one[case], [process[case] for process in two]) for case in one}


@pytest.mark.parametrize("case", DOUBLE)
def test_two_processes_train_as_one_with_the_same_batch(found, case):
    one, (two, _) = found[case]
    for epoch, (loss, expected) in enumerate(zip(two["losses"], one["losses"], strict=True)):
        # An epoch has up to three steps.
        assert loss == pytest.approx(expected, rel=RECORDED, abs=3 * (epoch + 1) * A_STEP), epoch
    assert two["state"].keys() == one["state"].keys()
    # What is counted or chosen is equal: nothing has crossed a rounding boundary.
    for kind in ("accuracies", "measures", "plan", "cost"):
        assert two[kind] == one[kind], kind


@pytest.mark.parametrize("case", SINGLE)
def test_in_float32_two_processes_begin_as_one(found, case):
    one, (two, _) = found[case]
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=FIRST, abs=0)
    assert two["state"].keys() == one["state"].keys()


@pytest.mark.parametrize("case", DOUBLE + SINGLE)
def test_both_processes_come_to_the_same_bit_for_bit(found, case):
    _, (first, second) = found[case]
    assert first == second


@pytest.mark.parametrize("case", ["search", "search, straight through", "search, float32"])
def test_bits_change_in_two_processes(found, case):
    _, (two, _) = found[case]
    assert max(measures.get("changes", 0) for measures in two["measures"]) > 0


@pytest.mark.parametrize("case", ["search", "search, straight through", "search, float32"])
def test_the_budget_is_met_exactly_in_two_processes(found, case):
    _, (two, _) = found[case]
    assert 4 < two["cost"] <= 8


def test_two_processes_go_on_from_what_the_leader_kept(found):
    one, both = found["interrupted"]
    for run in (one, *both):
        assert run["attempts"] == 5
        assert run["resumed"] == run["undisturbed"]


class Watch(Callback):
    """The gradients' dtypes, and the loss scale's effect on nothing that is kept."""

    def __init__(self, network):
        self.network, self.dtypes = network, set()

    def before_batch(self, *parts, targets):
        self.dtypes |= {p.dtype for p in self.network.parameters()}
        self.dtypes |= {p.grad.dtype for p in self.network.parameters() if p.grad is not None}


class Seen(nn.Module):
    """Keeps the dtype that a layer was given."""

    def __init__(self, dtypes):
        super().__init__()
        self.dtypes = dtypes

    def forward(self, x):
        self.dtypes.append(x.dtype)
        return x


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_half_precision_trains_and_what_is_learned_stays_float32(
    network, splits, space, model, rules, precision, dtype
):
    dtypes, records = [], []
    network.insert(9, Seen(dtypes))
    training = Training(epochs=4, batch_size=32, learning_rate=5e-3, precision=precision)
    plain = Watch(network)
    session = TrainingSession(splits, training, on_epoch=records.append)
    train(network, session, epochs=2, seed=0, phase="", callbacks=[plain])
    assert plain.dtypes == {torch.float32}
    # Training in half precision, evaluation (of 100 samples by 32) in float32.
    assert dtypes == ([dtype] * 8 + [torch.float32] * 4) * 2
    assert records[1].loss < records[0].loss
    del network[9]
    space = space.model_copy(update={"training": training})
    budgets = [Budget.parse("8x", "bit_budget", model, space.baseline)]
    settings = Allocation(probe_every=2)
    session = TrainingSession(splits, space.training, on_epoch=records.append)
    problem = AllocationProblem(network, model, rules, session, space, settings, budgets, seed=0)
    (quantized,) = allocate_adaptively(problem)
    assert isinstance(quantized, QuantizedNetwork)
    assert {value.dtype for value in quantized.state_dict().values()} <= {torch.float32, torch.int64}
    assert all(value.isfinite().all() for value in quantized.state_dict().values())
    assert model.cost("bit_budget", quantized.layer_plans) <= 8
    assert records[-1].validation_score > guessed(100, 10)


def test_one_process_is_on_the_device_that_it_is_given():
    fabric = make_fabric(torch.device("cpu"))
    assert (fabric.device, fabric.world_size, fabric.is_global_zero) == (torch.device("cpu"), 1, True)
