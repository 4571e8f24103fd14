"""Trains small networks and writes what came of it; run alone and by ``torchrun``, for comparison.

In float64 two processes go the same way as one does: another order of summation moves no activation of theirs across a
rounding boundary. In float32 it does now and then, on some processors.

python two_processes.py RESULTS.json
"""

import functools
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.allocation.methods import adaptive
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.data import Splits, load_data
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.fabric import make_fabric
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

LEARNING_RATE = 5e-3


class Unused(nn.Sequential):
    """Has a parameter that takes no part in the forward pass."""

    def __init__(self, *modules):
        super().__init__(*modules)
        self.spare = nn.Parameter(torch.ones(3))


def network(norm=None, dtype=torch.float64):
    torch.manual_seed(0)
    modules = []
    for inputs, outputs, stride in ((1, 6, 2), (6, 6, 1), (6, 8, 2)):
        # A bias before batch norm has no gradient but noise, which Adam makes as large as any.
        modules.append(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=norm is None))
        modules += [] if norm is None else [norm(outputs)]
        modules.append(nn.ReLU())
    return Unused(*modules, nn.Flatten(), nn.Linear(32, 10)).to(dtype)


def digits(samples, dtype=torch.float64):
    whole = load_data("digits", {}, split_seed=0)
    train, validation = (
        TensorDataset(part.tensors[0][:count].to(dtype), part.tensors[1][:count])
        for part, count in ((whole.train, samples), (whole.validation, 51))
    )
    return Splits(train, validation, validation, whole.input_shape, whole.classes)


def steps_in(dtype, quantized):
    """The quantized network with its step sizes, which are made in float32, in ``dtype``; bits stay as they are."""
    for own in quantized.layers.values():
        for step in (own.weight_log_step, own.spike_log_step):
            step.data = step.data.to(dtype)
    return quantized


def state(trained):
    """Every parameter's and buffer's sum and norm."""
    values = trained.state_dict().items()
    return {name: [value.double().sum().item(), value.double().norm().item()] for name, value in values}


def fixed(
    fabric, norm=None, samples=32, epochs=5, dtype=torch.float64, *, steps_set=False, steps_learned=True, **options
):
    """A float network, then a quantized one whose bits are fixed; a step an epoch with 32 samples.

    Where a batch comes in parts, the first of them sets the step sizes, unless ``steps_set`` has the whole batch do so.
    Where the parts are not all of one size, the gradients of step sizes, whose scale counts a part's elements, are not
    quite those of the whole batch; everything else is, without ``steps_learned``.
    """
    splits, records = digits(samples, dtype), []
    training = Training(batch_size=32, learning_rate=LEARNING_RATE, **options)
    plain = network(norm, dtype)
    session = TrainingSession(splits, training, records.append, fabric=fabric)
    train(plain, session, epochs=epochs, seed=0, phase="float")
    quantized = quantize(plain, splits.train[:32][0], start=UniformBits(weight_bits=4, spike_bits=4, time_steps=2))
    quantized.fix(quantized.layer_plans)
    steps_in(dtype, quantized)
    if steps_set:
        with torch.no_grad():
            quantized(splits.train[:32][0][fabric.global_rank :: fabric.world_size])
    for own in quantized.layers.values():
        own.weight_log_step.requires_grad_(steps_learned)
        own.spike_log_step.requires_grad_(steps_learned)
    train(quantized, session, epochs=epochs, seed=0, phase="quantized")
    return outcome(quantized, records)


def searched(
    fabric, norm=None, budget=("bit_budget", "8x"), epochs=16, checkpoints=None, dtype=torch.float64, **settings
):
    """Search, projection, fine-tuning; a step an epoch."""
    splits, records = digits(64, dtype), []
    training = Training(batch_size=64, epochs=epochs, learning_rate=LEARNING_RATE)
    space = SearchSpace(name="tiny", network="none", data="digits", training=training)
    plain = network(norm, dtype)
    session = TrainingSession(splits, training, on_epoch=records.append, fabric=fabric)
    train(plain, session, epochs=4, seed=0, phase="float")
    model = CostModel(trace(plain, splits.train[:32][0]))
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    budgets = [Budget.parse("=".join(budget), budget[0], model, space.baseline)]
    session = TrainingSession(splits, space.training, on_epoch=records.append, fabric=fabric, checkpoints=checkpoints)
    problem = AllocationProblem(
        plain,
        model,
        rules,
        session,
        space,
        Allocation(probe_every=2, search_share=0.5, headroom=100.0, **settings),
        budgets,
        seed=0,
    )
    make = adaptive.make_learnable_copy
    with mock.patch.object(adaptive, "make_learnable_copy", lambda *arguments: steps_in(dtype, make(*arguments))):
        (quantized,) = adaptive.allocate_adaptively(problem)
    return outcome(quantized, records)


class _KilledError(Exception):
    pass


def interrupted(fabric):
    """A search that is given up after every epoch and begun again, beside one that is not."""

    def kill():
        raise _KilledError

    search = functools.partial(searched, fabric, epochs=4, dtype=torch.float32)
    undisturbed, attempts = search(), 0
    with TemporaryDirectory() as folder:
        # The leader alone reads and writes.
        path = Path(folder) / "kept.safetensors" if fabric.global_rank == 0 else None
        while True:
            attempts += 1
            try:
                with Checkpoint(path, fabric=fabric, after=kill) as checkpoint:
                    resumed = search(checkpoints=checkpoint)
            except _KilledError:
                continue
            return {"undisturbed": undisturbed["state"], "resumed": resumed["state"], "attempts": attempts}


def outcome(quantized, records):
    return {
        "losses": [record.loss for record in records],
        "accuracies": [record.validation_score for record in records],
        "measures": [record.measures for record in records],
        "cost": quantized.model.cost("bit_budget", quantized.layer_plans),
        "plan": {name: plan.model_dump() for name, plan in quantized.layer_plans.items()},
        "state": state(quantized),
    }


DOUBLE = {
    "fixed": fixed,
    "batch norm": functools.partial(fixed, norm=nn.BatchNorm2d),
    "multi-step batch norm": functools.partial(fixed, norm=layer.BatchNorm2d, epochs=2),
    "odd batches": functools.partial(fixed, samples=65, epochs=2, steps_learned=False),
    "micro batches": functools.partial(fixed, micro_batch=8, steps_set=True),
    "odd micro batches": functools.partial(fixed, micro_batch=6, steps_set=True, steps_learned=False),
    "search": searched,
    "search, straight through": functools.partial(searched, estimator="straight_through"),
    "search by firing": functools.partial(searched, norm=nn.BatchNorm2d, budget=("ns_ace", "30000"), epochs=4),
}
SINGLE = {
    f"{case}, float32": functools.partial(DOUBLE[case], dtype=torch.float32)
    for case in ("batch norm", "micro batches", "search", "search by firing")
}


def main(results):
    torch.set_num_threads(1)
    fabric = make_fabric(torch.device("cpu"))
    found = {name: case(fabric) for name, case in (DOUBLE | SINGLE | {"interrupted": interrupted}).items()}
    # Every process's: all have to come to the same.
    name = f"{results}.{os.environ.get('RANK', '0')}"
    Path(name).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
