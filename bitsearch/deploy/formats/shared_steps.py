"""One step size for all time steps of a layer, for what has one threshold, or sums of spikes that weigh alike."""

import math

import torch
from torch import nn

from bitsearch.deploy.formats.format import ExportRequest
from bitsearch.layers import quantized_layers
from bitsearch.train.evaluate import evaluate


def share_steps_of(request: ExportRequest) -> str:
    """Share the steps of a request's network, in place; what that costs on the test split, to print."""
    task = request.task

    def score() -> float:
        return evaluate(request.network, task.splits.last_read, task.space.training.at_once, task=task.learning_task)

    before = score()
    share_steps(request.network)
    return f"test {task.learning_task.score.name} {before:.4f}, with shared steps {score():.4f}"


@torch.no_grad()
def share_steps(network: nn.Module) -> dict[str, float]:
    """Give every layer's spikes one step size for all time steps, in place: the geometric mean of theirs.

    Returns:
        The largest ratio of two step sizes in each layer, before.
    """
    ratios = {}
    for name, layer in quantized_layers(network).items():
        used = layer.spike_step[: layer.active_steps].log()
        ratios[name] = math.exp(float(used.max() - used.min()))
        layer.spike_log_step.fill_(float(used.mean()))
    return ratios
