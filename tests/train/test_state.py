"""A training that is interrupted after every epoch ends as one that is not, bit by bit."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from small_network import part
from torch import nn

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.errors import DivergedError
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Distillation, Training


class _KilledError(Exception):
    pass


def interrupted_everywhere(path, attempt):
    """The result of ``attempt(checkpoint)`` when every epoch is the last before a kill, and how many were kept."""
    kept = 0

    def kill():
        nonlocal kept
        kept += 1
        raise _KilledError

    while True:
        try:
            with Checkpoint(path, after=kill) as checkpoint:
                return attempt(checkpoint), kept
        except _KilledError:
            # Another process has other random numbers.
            torch.manual_seed(kept)


def with_dropout(network):
    return nn.Sequential(*list(network)[:-1], nn.Dropout(0.2), network[-1])


def test_a_full_precision_training(fresh_network, splits, tmp_path):
    training = Training(batch_size=64)

    def attempt(checkpoints):
        network = with_dropout(fresh_network())
        session = TrainingSession(splits, training, checkpoints=checkpoints)
        train(network, session, epochs=4, seed=0, phase="full precision")
        return network.state_dict()

    undisturbed = attempt(None)
    resumed, kept = interrupted_everywhere(tmp_path / "kept.safetensors", attempt)
    assert kept == 4
    for name, value in undisturbed.items():
        assert torch.equal(resumed[name], value), name


RECIPES = {
    "sgd": {"optimizer": "sgd", "nesterov": True, "learning_rate": 0.05, "schedule": "multi_step", "warm_up": 0.5},
    "adamw": {"optimizer": "adamw", "schedule": "one_cycle", "gradient_clipping": 0.5, "mixup": 0.3},
    "average": {"ema": 0.8, "schedule": "constant"},
    "early stopping": {"ema": 0.5, "early_stopping": 1, "learning_rate": 0.05},
    "a factory": {"optimizer": "torch.optim:RMSprop", "optimizer_options": {"momentum": 0.5}, "mixup": 0.3},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe(recipe, fresh_network, splits, tmp_path):
    training = Training(batch_size=64, **RECIPES[recipe])
    few = replace(splits, train=part(splits.train, 128), validation=part(splits.validation, 20))

    def attempt(checkpoints):
        network = with_dropout(fresh_network())
        session = TrainingSession(few, training, checkpoints=checkpoints)
        patience = training.early_stopping
        train(network, session, epochs=4, seed=0, phase="full precision", patience=patience)
        return network.state_dict()

    undisturbed = attempt(None)
    resumed, _ = interrupted_everywhere(tmp_path / "kept.safetensors", attempt)
    for name, value in undisturbed.items():
        assert torch.equal(resumed[name], value), name


CASES = {
    "adaptive": ("bit_budget", {"estimator": "straight_through", "renewal": {"epochs": 1}}),
    "adaptive, probed": ("bit_budget", {"estimator": "probed", "probe_every": 1}),
    "adaptive, by firing": ("ns_ace", {"probe_every": 3}),
    "adaptive, by gradient descent": ("bit_budget", {"probe_every": 2}),
    "ramp, distilled": ("bit_budget", {"ramp": {"steps": 1}}),
    "local_binary": ("bit_budget", {}),
    "ramp": ("bit_budget", {"ramp": {"steps": 2}, "quantizer": {"form": "sigmoid"}}),
    "refine": ("bit_budget", {"refine": {"tries": 2, "epochs": 2}}),
    "sensitivity": ("bit_budget", {"quantizer": {"form": "sigmoid"}}),
    "uniform": ("bit_budget", {}),
    "random": ("ns_ace", {}),
}


def test_every_method_is_interrupted_somewhere():
    assert {name.partition(",")[0] for name in CASES} == set(METHODS)


@pytest.mark.parametrize("case", CASES)
def test_a_method(case, network, splits, space, tmp_path):
    metric, settings = CASES[case]
    method = case.partition(",")[0]
    network = with_dropout(network)
    model = CostModel(trace(network, splits.train.tensors[0][:32]))
    few = {"weight_bits": [1, 2, 4, 8], "spike_bits": [1, 2, 4], "time_steps": [1, 2]}
    rules = AllowedBits.make(model, Choices.model_validate(few), space.first_layer)
    settings = Allocation(method=method, **settings)
    share, of = (0.2, "s_ace") if metric == "ns_ace" else (0.6, metric)
    limit = share * model.cost(of, rules.nearest(model, settings.start, granularity="layer"))
    budgets = [Budget(metric, "given", limit)]
    recipe = {
        "by gradient descent": {"optimizer": "sgd", "mixup": 0.2, "ema": 0.9},
        "distilled": {"distillation": Distillation(weight=0.5, features=("3",))},
    }.get(case.partition(", ")[2], {})
    training = Training(epochs=2 if method == "sensitivity" else 3, batch_size=64, **recipe)
    short = space.model_copy(update={"training": training, "allocation": settings})
    records = {"undisturbed": [], "resumed": []}

    def attempt(checkpoints, kind="resumed"):
        given = copy.deepcopy(network)
        session = TrainingSession(splits, short.training, records[kind].append, checkpoints, teacher=given)
        problem = AllocationProblem(given, model, rules, session, short, settings, budgets, seed=0)
        return list(METHODS[method](problem))

    undisturbed = attempt(None, "undisturbed")
    resumed, kept = interrupted_everywhere(tmp_path / "kept.safetensors", attempt)
    assert kept == len(records["undisturbed"])
    assert records["resumed"] == records["undisturbed"]
    for was, now in zip(undisturbed, resumed, strict=True):
        assert now.layer_plans == was.layer_plans
        assert now.soft_accuracy == was.soft_accuracy
        for name, value in was.state_dict().items():
            assert torch.equal(now.state_dict()[name], value), name


def test_batches_that_were_cut_for_memory_stay_cut(fresh_network, splits, tmp_path):
    path, records = tmp_path / "kept.safetensors", []
    whole = Training(batch_size=64)

    def first(record):
        records.append(record)
        if record.epoch == 2:
            raise _KilledError

    cut = whole.model_copy(update={"micro_batch": 16})
    with Checkpoint(path) as checkpoint:
        session = TrainingSession(splits, cut, on_epoch=first, checkpoints=checkpoint)
        with pytest.raises(_KilledError):
            train(fresh_network(), session, epochs=3, seed=0, phase="a")
    session = TrainingSession(splits, whole, on_epoch=records.append, checkpoints=Checkpoint(path))
    train(fresh_network(), session, epochs=3, seed=0, phase="a")
    assert [(record.epoch, record.micro_batch) for record in records] == [(1, 16), (2, 16), (2, 16), (3, 16)]


def test_a_training_that_diverges_says_when(fresh_network, splits):
    broken = fresh_network()
    with torch.no_grad():
        broken[0].weight[0] = math.nan
    with pytest.raises(DivergedError, match=r"loss is nan in epoch 1 of 2 \(full precision\); lower"):
        train(broken, TrainingSession(splits, Training(batch_size=32)), epochs=2, seed=0, phase="full precision")
