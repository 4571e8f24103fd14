r"""The trace of the Hessian as a sensitivity (Dong et al. 2020, HAWQ-V2), estimated by Hutchinson's method.

.. math::
    \operatorname{Tr}(H) = \mathbb{E}_v[v^\top H v], \quad v_i = \pm 1, \qquad
    \Delta L \approx \tfrac12 \frac{\operatorname{Tr}(H)}{n} \sum (Q(x) - x)^2

H is that of the training loss of the float network, in evaluation mode: by the weights of a layer, and by its input.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.neurons import is_neuron
from bitsearch.network_inputs import Inputs
from bitsearch.train.predict import predict
from bitsearch.train.tasks import CLASSIFICATION, LearningTask

VECTORS = 4
"""Random vectors a batch."""


def hessian_traces(
    network: nn.Module,
    names: Sequence[str],
    inputs: Inputs,
    targets: Tensor,
    generator: torch.Generator,
    task: LearningTask = CLASSIFICATION,
) -> dict[str, tuple[float, float]]:
    """(trace by the weights, trace by the input averaged over the samples) of every named layer, on one batch.

    Layers that have one weight get equal parts of its trace.

    Args:
        network: in full precision.
        names: module paths of convolutions and linear layers.
        inputs: ``[N, ...]``, or ``[T, N, ...]``.
        targets: of the samples.
        generator: of the random vectors, on the CPU.
        task: whose loss is meant.

    Raises:
        InputError: the network has spiking neurons, whose surrogate gradients are no loss's slope.
    """
    modules = dict(network.named_modules())
    if any(is_neuron(module) for module in modules.values()):
        raise InputError(
            "the Hessian of a network with spiking neurons is not defined, since their gradients are surrogates; "
            'set allocation.sensitivity.metric = "fisher"'
        )
    layer_inputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def capture(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # The network's own input carries no gradient yet.
            x = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
            layer_inputs[name].append(x)
            return (x, *args[1:])

        return hook

    with ExitStack() as hooks, eval_mode(network), torch.enable_grad():
        for name in names:
            hooks.callback(modules[name].register_forward_pre_hook(capture(name)).remove)
        outputs = predict(network, inputs, task.form)
        loss = task.loss.summed(outputs, targets) / len(outputs)
        groups = [[modules[name].weight] for name in names] + [layer_inputs[name] for name in names]
        tensors: list[Tensor] = [tensor for group in groups for tensor in group]
        traces = [0.0] * len(groups)
        gradients = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
        for _ in range(VECTORS):
            start = 0
            # One group after the other: products between two layers are noise in the trace of either.
            for index, group in enumerate(groups):
                vectors = [_signs(tensor, generator) for tensor in group]
                slope = _along(gradients[start : start + len(group)], vectors)
                start += len(group)
                if slope.requires_grad:
                    products = torch.autograd.grad(slope, group, retain_graph=True, materialize_grads=True)
                    traces[index] += float(_along(products, vectors)) / VECTORS
    # By an input, the mean loss of N samples has a block a sample, each divided by N: their mean comes out.
    weights = [modules[name].weight for name in names]
    owners = Counter(id(weight) for weight in weights)
    return {
        name: (traces[index] / owners[id(weights[index])], traces[len(names) + index])
        for index, name in enumerate(names)
    }


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like.device, like.dtype)


def _along(tensors: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
    return torch.stack([(tensor * vector).sum() for tensor, vector in zip(tensors, vectors, strict=True)]).sum()
