"""Weights that a network computes from others before every use: weight and spectral norm, and parametrizations.

A quantizer's grid is for the weight that is multiplied, so such a weight is fixed at its value before it gets bits.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bitsearch.frameworks.eval_mode import eval_mode


def reparametrized(module: nn.Module) -> str | None:
    """What ``module`` computes its weight by, in words; None where the weight is its own."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == "weight":
            return "weight norm" if isinstance(hook, WeightNorm) else "spectral norm"
    if parametrize.is_parametrized(module, "weight"):
        kinds = [type(part).__name__.lstrip("_") for part in module.parametrizations["weight"]]  # type: ignore[index]  # a ModuleDict
        return f"parametrization {' of '.join(kinds)}"
    return None


def fuse_weights(network: nn.Module) -> None:
    """Fix every reparametrized weight at its value in evaluation mode, in place; what computed it is gone."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _fuse_parametrizations(module)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == "weight":
                hook.remove(module)
                del module._forward_pre_hooks[key]


def _fuse_parametrizations(module: nn.Module) -> None:
    """As torch's ``remove_parametrizations``, which would take the class apart that a copy shares with its original."""
    with eval_mode(module), torch.no_grad():
        values = {name: getattr(module, name).clone() for name in module.parametrizations}  # type: ignore[union-attr]  # a ModuleDict
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def detach_computed_weights(network: nn.Module) -> None:
    """Make ``network`` fit for a copy: a weight that an old hook computed is left over from a graph."""
    for module in network.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                computed = getattr(module, hook.name)
                if computed.grad_fn is not None:
                    setattr(module, hook.name, computed.detach())
