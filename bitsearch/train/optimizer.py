"""The optimizer of a training: one of torch's by name, or what the user's factory makes."""

import copy
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from bitsearch.errors import InputError, located
from bitsearch.frameworks.reparametrized import detach_computed_weights
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.registry import call, find_factory
from bitsearch.train.checkpoint import state_bytes
from bitsearch.train.latent_steps import LatentSteps
from bitsearch.training import OPTIMIZERS, Training

MOMENTUM = 0.9
_FACTORIES = dict(zip(OPTIMIZERS, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD), strict=True))


def make_optimizer(network: nn.Module, training: Training, latent_rates: dict[str, float] | None = None) -> Optimizer:
    """The optimizer of a network's weights, steps and latents, each group with its rate and weight decay.

    Latents move by Adam under any.

    Raises:
        InputError: the user's factory fails, or makes something else.
    """
    groups = _groups(network, training, latent_rates or {})
    name = training.optimizer
    keywords: dict[str, Any] = {"params": groups, "lr": training.learning_rate, "weight_decay": training.weight_decay}
    if name == "sgd":
        momentum = MOMENTUM if training.momentum is None else training.momentum
        keywords |= {"momentum": momentum, "nesterov": training.nesterov}
    elif name in _FACTORIES:
        # Clipping needs the gradients of float16 unscaled, which a fused optimizer does within its step.
        keywords["fused"] = training.gradient_clipping is None or training.precision != "float16"
    optimizer = call(
        find_factory(name, _FACTORIES, "optimizer"), name, training.optimizer_options, "optimizer", keywords
    )
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer {name!r} makes a {type(optimizer).__name__}; it must make a torch optimizer")
    latents = [group for group in groups if group.get("latents")]
    if latents and name not in ("adam", "adamw"):
        LatentSteps(optimizer, latents)
    return optimizer


def check_optimizer(network: nn.Module, training: Training) -> None:
    """Make the user's optimizer for a copy of a network, and let it make a step; torch's own as well, with options.

    Raises:
        InputError: it cannot be made, makes no step by gradients alone, or keeps what no checkpoint can hold.
    """
    if training.optimizer in OPTIMIZERS and not training.optimizer_options:
        return
    detach_computed_weights(network)
    network, label = copy.deepcopy(network), f"optimizer {training.optimizer!r}"
    optimizer = make_optimizer(network, training)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    try:
        optimizer.step()
    except (Exception, SystemExit) as error:
        raise InputError(f"{label} cannot make a step: {located(error)}") from error
    try:
        state_bytes(optimizer.state_dict())
    except TypeError as error:
        raise InputError(f"{label}: {error}, so that no training could go on") from error


def clip_gradients(fabric: Fabric, optimizer: Optimizer, largest: float) -> None:
    """Bring the norm of all gradients together to at most ``largest``; latents keep theirs."""
    fabric.strategy.precision.unscale_gradients(optimizer)
    weights = [p for group in optimizer.param_groups if not group.get("latents") for p in group["params"]]
    nn.utils.clip_grad_norm_(weights, largest)


def _groups(network: nn.Module, training: Training, latent_rates: dict[str, float]) -> list[dict[str, Any]]:
    rate, decay = training.learning_rate, training.weight_decay
    if isinstance(network, QuantizedNetwork):
        return network.parameter_groups(rate, weight_decay=decay, **latent_rates)
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "lr": rate, "weight_decay": 0.0},
    ]
