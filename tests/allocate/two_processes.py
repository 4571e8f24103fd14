"""Trains small networks and writes what came of it; run alone and by ``torchrun``, for comparison.

python two_processes.py RESULTS.json
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.allocate.adaptive import allocate_adaptively
from bitsearch.allocate.fabric import make_fabric
from bitsearch.allocate.method import Problem
from bitsearch.allocate.quantized_network import quantize
from bitsearch.allocate.trainer import train
from bitsearch.cost import Budget, CostModel, Rules, trace
from bitsearch.data import Splits, load_data
from bitsearch.plan import UniformBits
from bitsearch.search.checkpoint import Checkpoint
from bitsearch.space import Allocation, SearchSpace, Training


class Unused(nn.Sequential):
    """Has a parameter that takes no part in the forward pass."""

    def __init__(self, *modules):
        super().__init__(*modules)
        self.spare = nn.Parameter(torch.ones(3))


def network(norm=None):
    torch.manual_seed(0)
    modules = []
    for inputs, outputs, stride in ((1, 6, 2), (6, 6, 1), (6, 8, 2)):
        # A bias before batch norm has no gradient but noise, which Adam makes as large as any.
        modules.append(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=norm is None))
        modules += [] if norm is None else [norm(outputs)]
        modules.append(nn.ReLU())
    return Unused(*modules, nn.Flatten(), nn.Linear(32, 10))


def digits(samples):
    whole = load_data("digits", {}, split_seed=0)
    train, validation = (
        TensorDataset(*(tensor[:count] for tensor in part.tensors))
        for part, count in ((whole.train, samples), (whole.validation, 51))
    )
    return Splits(train, validation, validation, whole.input_shape, whole.classes)


def state(trained):
    """Every parameter's and buffer's sum and norm."""
    values = trained.state_dict().items()
    return {name: [value.double().sum().item(), value.double().norm().item()] for name, value in values}


def fixed(fabric, norm=None, samples=32, epochs=5, **options):
    """A float network, then a quantized one whose bits are fixed; a step an epoch with 32 samples."""
    splits, records = digits(samples), []
    training = Training(batch_size=32, learning_rate=5e-3, **options)
    plain = network(norm)
    everything = {"seed": 0, "on_epoch": records.append, "fabric": fabric}
    train(plain, splits, training, epochs=epochs, phase="float", **everything)
    quantized = quantize(plain, splits.train[:32][0], start=UniformBits(weight_bits=4, spike_bits=4, time_steps=2))
    quantized.fix(quantized.layer_plans)
    train(quantized, splits, training, epochs=epochs, phase="quantized", **everything)
    return outcome(quantized, records)


def searched(fabric, norm=None, budget=("bit_budget", "8x"), epochs=16, checkpoints=None, **knobs):
    """Search, projection, fine-tuning; a step an epoch."""
    splits, records = digits(64), []
    training = Training(batch_size=64, epochs=epochs, learning_rate=5e-3)
    space = SearchSpace(name="tiny", network="none", data="digits", training=training)
    plain = network(norm)
    train(plain, splits, training, epochs=4, seed=0, phase="float", on_epoch=records.append, fabric=fabric)
    model = CostModel(trace(plain, splits.train[:32][0]))
    rules = Rules.make(model, space.choices, space.first_layer)
    budgets = [Budget.parse(budget[1], budget[0], model, space.baseline)]
    problem = Problem(
        plain,
        model,
        rules,
        splits,
        space,
        Allocation(probe_every=2, search_share=0.5, headroom=100.0, **knobs),
        budgets,
        seed=0,
        on_epoch=records.append,
        fabric=fabric,
        checkpoints=checkpoints,
    )
    (quantized,) = allocate_adaptively(problem)
    return outcome(quantized, records)


class _KilledError(Exception):
    pass


def interrupted(fabric):
    """A search that is given up after every epoch and begun again, beside one that is not."""

    def kill():
        raise _KilledError

    undisturbed, attempts = searched(fabric, epochs=4), 0
    with TemporaryDirectory() as folder:
        # The leader alone reads and writes.
        path = Path(folder) / "kept.safetensors" if fabric.global_rank == 0 else None
        while True:
            attempts += 1
            try:
                with Checkpoint(path, fabric=fabric, after=kill) as checkpoint:
                    resumed = searched(fabric, epochs=4, checkpoints=checkpoint)
            except _KilledError:
                continue
            return {"undisturbed": undisturbed["state"], "resumed": resumed["state"], "attempts": attempts}


def outcome(quantized, records):
    return {
        "losses": [record.loss for record in records],
        "accuracies": [record.validation_accuracy for record in records],
        "measures": [record.measures for record in records],
        "cost": quantized.model.cost("bit_budget", quantized.layer_plans),
        "plan": {name: plan.model_dump() for name, plan in quantized.layer_plans.items()},
        "state": state(quantized),
    }


CASES = {
    "fixed": fixed,
    "batch norm": lambda fabric: fixed(fabric, nn.BatchNorm2d),
    "multi-step batch norm": lambda fabric: fixed(fabric, layer.BatchNorm2d, epochs=2),
    "odd batches": lambda fabric: fixed(fabric, samples=65, epochs=2),
    "micro batches": lambda fabric: fixed(fabric, micro_batch=6),
    "search": searched,
    "search, straight through": lambda fabric: searched(fabric, estimator="straight_through"),
    "interrupted": interrupted,
    "search by firing": lambda fabric: searched(fabric, nn.BatchNorm2d, ("ns_ace", "30000"), epochs=4),
}


def main(results):
    torch.set_num_threads(1)
    fabric = make_fabric(torch.device("cpu"))
    found = {name: case(fabric) for name, case in CASES.items()}
    # Every process's: all have to come to the same.
    name = f"{results}.{os.environ.get('RANK', '0')}"
    Path(name).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
