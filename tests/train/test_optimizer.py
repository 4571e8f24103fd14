import math

import pytest
import torch
from small_network import part
from tolerances import rounding
from torch import nn
from torch.nn import functional as F

from bitsearch.data import batches
from bitsearch.errors import InputError
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.train.loop import Callback, train
from bitsearch.train.optimizer import check_optimizer, make_optimizer
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

EPOCHS = 2


def trained_by_hand(network, splits, make, training):
    """The recipe of the default once more, in a loop that shares no code but that of batches."""
    parameters = list(network.parameters())
    optimizer = make(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": training.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        training.learning_rate,
    )
    generator, step = torch.Generator().manual_seed(5), 0
    steps = EPOCHS * len(splits.train) // training.batch_size
    for _ in range(EPOCHS):
        network.train()
        for inputs, labels in batches(splits.train, training.batch_size, generator):
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * (0.5 * (1 + math.cos(math.pi * step / steps)))
            optimizer.zero_grad()
            (F.cross_entropy(network(inputs), labels, reduction="sum") / len(labels)).backward()
            optimizer.step()
            step += 1
    return network


RECIPES = {
    "default": (Training(), lambda groups, lr: torch.optim.Adam(groups, lr=lr, fused=True)),
    "adamw": (
        Training(optimizer="adamw", weight_decay=0.1),
        lambda groups, lr: torch.optim.AdamW(groups, lr=lr, fused=True),
    ),
    "sgd": (
        Training(optimizer="sgd", learning_rate=0.05, nesterov=True),
        lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True),
    ),
    "options": (
        Training(optimizer_options={"betas": [0.8, 0.9]}),
        lambda groups, lr: torch.optim.Adam(groups, lr=lr, betas=(0.8, 0.9), fused=True),
    ),
    "a factory": (
        Training(optimizer="torch.optim:RMSprop", optimizer_options={"alpha": 0.9}),
        lambda groups, lr: torch.optim.RMSprop(groups, lr=lr, alpha=0.9),
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_optimizer_is_torchs(recipe, fresh_network, splits):
    training, make = RECIPES[recipe]
    training = training.model_copy(update={"batch_size": 32})
    network = fresh_network()
    train(network, TrainingSession(splits, training), epochs=EPOCHS, seed=5, phase="")
    expected = trained_by_hand(fresh_network(), splits, make, training)
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


class Push(Callback):
    def __init__(self, quantized):
        self.quantized = quantized
        for layer in quantized.layers.values():
            layer.straight_through = False

    def penalty(self):
        return 1e3 * sum(layer.latents.sum() for layer in self.quantized.searched_layers.values())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "torch.optim:RMSprop", "torch.optim:Adagrad"])
def test_latents_move_at_their_own_rates_under_any(optimizer, network, splits, batch):
    quantized = quantize(network, batch[0][:32], start=UniformBits(weight_bits=3, spike_bits=3, time_steps=2))
    training = Training(batch_size=32, optimizer=optimizer, learning_rate=1e-3, gradient_clipping=1e-3)
    rates = {"bits_learning_rate": 0.1, "time_learning_rate": 1e-9}
    session = TrainingSession(splits, training)
    train(quantized, session, epochs=1, seed=0, phase="", callbacks=[Push(quantized)], latent_rates=rates)
    for layer in quantized.searched_layers.values():
        # Eight steps of Adam against a constant slope: 0.1 each, but 0.0775, 0.055 and 0.0325 at the end.
        assert layer.weight_latent.item() == pytest.approx(3 - 0.665, rel=2 * rounding(16))
        assert layer.time_latent.item() == 2


def test_clipping_bounds_the_norm_of_all_weights_gradients(fresh_network, splits):
    norms = []

    class Norm(Callback):
        def after_step(self):
            norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters())))

    for most in (None, 0.1):
        network = fresh_network()
        training = Training(batch_size=32, gradient_clipping=most)
        train(network, TrainingSession(splits, training), epochs=1, seed=0, phase="", callbacks=[Norm()])
    assert min(norms[:8]) > 0.1
    # torch divides by the norm and 1e-6.
    assert norms[8:] == pytest.approx([0.1] * 8, rel=1e-4)


def test_frozen_parameters_stay_as_they_are_under_any_recipe(fresh_network, splits):
    network = fresh_network()
    network[0].weight.requires_grad_(False)
    before = network[0].weight.clone()
    training = Training(batch_size=64, optimizer="sgd", gradient_clipping=1.0, ema=0.9)
    train(network, TrainingSession(splits, training), epochs=1, seed=0, phase="")
    assert torch.equal(network[0].weight, before)
    assert not torch.equal(network[3].weight, fresh_network()[3].weight)


class Exotic(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["seen"] = {1, 2}


def no_optimizer(params):
    return list(params)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "missing_module:make"}, "optimizer 'missing_module:make': cannot import 'missing_module'"),
        ({"optimizer": "torch.optim:Adagradd"}, "torch.optim has no callable 'Adagradd'"),
        ({"optimizer": "torch.optim:LBFGS"}, "optimizer 'torch.optim:LBFGS' failed at .*parameter groups"),
        ({"optimizer_options": {"beta": 1}}, r"does not take {'beta': 1}; its options: .*betas.*training.optimizer_op"),
        ({"optimizer_options": {"betas": [2, 2]}}, "optimizer 'adam' failed at .*Invalid beta"),
        ({"optimizer": "test_optimizer:no_optimizer"}, "makes a list; it must make a torch optimizer"),
        ({"optimizer": "test_optimizer:Exotic"}, "state holds a set; tensors and plain values can be kept, so that no"),
        ({"optimizer": "torch.optim:SparseAdam"}, "optimizer 'torch.optim:SparseAdam' cannot make a step"),
    ],
)
def test_an_optimizer_that_cannot_train_is_told_before(settings, said, fresh_network):
    network = fresh_network()
    before = network[0].weight.clone()
    with pytest.raises(InputError, match=said) as caught:
        check_optimizer(network, Training(**settings))
    assert len(str(caught.value).splitlines()) == 1
    assert torch.equal(network[0].weight, before)


def test_weight_decay_is_for_weights_alone():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = make_optimizer(network, Training(optimizer="sgd", weight_decay=0.3))
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.3), (3, 0.0)]


def test_mixed_halves_can_be_clipped(fresh_network, splits):
    few = part(splits.train, 64)
    training = Training(batch_size=32, precision="float16", gradient_clipping=0.5)
    network = fresh_network()
    session = TrainingSession(type(splits)(few, splits.validation, None, splits.input_shape, 10), training)
    train(network, session, epochs=1, seed=0, phase="")
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_a_network_whose_weight_an_old_hook_has_computed_is_tried_on_a_copy():
    with pytest.warns(FutureWarning):
        network = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)))
    before = network(torch.ones(2, 3)).detach()
    check_optimizer(network, Training(optimizer_options={"betas": [0.8, 0.9]}))
    assert torch.equal(network(torch.ones(2, 3)), before)
