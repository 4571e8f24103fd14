r"""Reconstruction: roundings and step sizes by which every layer returns what the float network's does.

.. math::
    \min_{V, s, b} \; \mathrm{KL}(p \,\|\, \hat p)
    + \sum_l \frac{\mathbb{E}\lVert \hat y_l - y_l \rVert^2}{\operatorname{Var}(y_l)}
    + \lambda \sum \bigl(1 - |2 h(V) - 1|^\beta\bigr)

y is what the float layer returns, ŷ what the quantized one does of what the quantized layers before it send, p and p̂
what the networks predict (other losses than cross-entropy have a divergence of their own). V are the rounding offsets
of :mod:`bitsearch.layers.rounding`, which decide as β falls (Nagel et al. 2020, "AdaRound"), s the steps of weights and
spikes, b the biases there are. Against Li et al. 2021 ("BRECQ"), whose blocks are fitted one after the other and
weighted by the Fisher, all layers are fitted at once, each answerable for the errors behind it as well: that needs no
outputs kept in memory, and the divergence of the predictions stands for the Fisher (our reading). No labels are used,
and no weight comes to rest farther than one level from where it was.
"""

import math

import torch
from torch import Tensor, nn

from bitsearch.calibrate.samples import CalibrationSamples
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.rounding import RoundingOffsets
from bitsearch.train.layer_outputs import LayerOutputs, layer_outputs, watched
from bitsearch.train.predict import predict
from bitsearch.train.tasks import LearningTask

BATCH = 16
"""Samples an iteration; twice as many win nothing (``python -m benchmarks.reconstruction``)."""
OFFSET_RATE = 5e-2
"""Learning rate of the offsets, which are logits."""
STEP_RATE = 5e-3
"""Of the steps' logarithms and of the biases."""
SHARPNESS = (20.0, 2.0)
"""β from the moment on from which offsets are drawn to a decision, and at the end."""
FREE = 0.2
"""Share of the iterations before that."""
DECISION = 1e-3
"""λ."""
LEAST_VARIANCE = 1e-12


def reconstruct(
    quantized: QuantizedNetwork,
    network: nn.Module,
    samples: CalibrationSamples,
    task: LearningTask,
    *,
    iterations: int,
    seed: int,
) -> None:
    """Fit roundings, step sizes and biases of a quantized network, in place.

    Args:
        quantized: in evaluation mode, with all of its step sizes.
        network: the float one, in evaluation mode too.
        samples: of which :data:`BATCH` are drawn an iteration.
        task: whose divergence the predictions are compared by.
        iterations: none leaves everything as it is.
        seed: of the draws.
    """
    offsets = _soften(quantized) if iterations else []
    optimizer = torch.optim.Adam(_parameter_groups(quantized, offsets)) if iterations else None
    names, generator = compared(quantized), torch.Generator().manual_seed(seed)
    for iteration in range(iterations):
        assert optimizer is not None
        inputs = samples.drawn(BATCH, generator)
        targets, prediction = layer_outputs(network, names, inputs, task.form)
        with watched(quantized.network, names) as outputs:
            changed = predict(quantized, inputs, task.form)
        loss = task.loss.divergence(prediction, changed) / len(changed) + distance(targets, outputs)
        sharpness = _sharpness(iteration / iterations)
        if sharpness is not None:
            loss = loss + DECISION * torch.stack([each.undecided(sharpness) for each in offsets]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    for each in offsets:
        each.harden()
    for layer in quantized.layers.values():
        layer.soft_weights = None
        layer.clamp_parameters()


def compared(quantized: QuantizedNetwork) -> list[str]:
    """Module paths of what is to return what it does in the float network: the layers.

    Residual blocks beside them win no more than other seeds do (``python -m benchmarks.reconstruction``).
    """
    return list(quantized.layers)


def distance(targets: LayerOutputs, outputs: LayerOutputs) -> Tensor:
    """Σ over layers of the mean squared error of what they return, over the variance of the targets, a scalar.

    A layer that is called several times counts as the mean of its calls; one whose calls are others than its target's,
    as where a layer is computed once for all of them, counts nothing.
    """
    total = torch.zeros(())
    for name, calls in outputs.items():
        pairs = list(zip(targets[name], calls, strict=False))
        if not pairs or len(calls) != len(targets[name]) or any(a.shape != b.shape for a, b in pairs):
            continue
        errors = [
            (output.float() - target.float()).square().mean()
            / target.float().var(correction=0).clamp_min(LEAST_VARIANCE)
            for target, output in pairs
        ]
        total = total.to(errors[0].device) + torch.stack(errors).mean()
    return total


def _soften(quantized: QuantizedNetwork) -> list[RoundingOffsets]:
    """Offsets in the place of every layer's rounding; layers that share a weight share them."""
    offsets: dict[Tensor, RoundingOffsets] = {}
    for layer in quantized.layers.values():
        if layer.weight not in offsets:
            offsets[layer.weight] = RoundingOffsets(layer)
        layer.soft_weights = offsets[layer.weight]
    return list(offsets.values())


def _parameter_groups(quantized: QuantizedNetwork, offsets: list[RoundingOffsets]) -> list[dict[str, object]]:
    layers = quantized.layers.values()
    rest = [layer.weight_log_step for layer in layers] + [layer.spike_log_step for layer in layers]
    rest += [layer.bias for layer in layers if isinstance(layer.bias, nn.Parameter)]
    return [
        {"params": [each.offsets for each in offsets], "lr": OFFSET_RATE},
        # Each once, though several layers may have one.
        {"params": list(dict.fromkeys(rest)), "lr": STEP_RATE},
    ]


def _sharpness(progress: float) -> float | None:
    """β after a share of the iterations; None while offsets are free."""
    if progress < FREE:
        return None
    first, last = SHARPNESS
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * (progress - FREE) / (1 - FREE)))
