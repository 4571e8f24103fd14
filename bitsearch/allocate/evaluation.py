"""Measuring a network: accuracy and firing rates."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.models.eval_mode import eval_mode


@torch.no_grad()
def evaluate(network: nn.Module, samples: Samples, batch_size: int) -> float:
    """Share of samples whose largest logit (of ``[N, classes]``) is their label; modes stay as they were."""
    device = next(network.parameters()).device
    correct = torch.zeros((), dtype=torch.long, device=device)
    count = 0
    with eval_mode(network):
        for inputs, labels in batches(samples, batch_size):
            logits = network(inputs.to(device))
            correct += (logits.argmax(-1) == labels.to(device)).sum()
            count += len(labels)
    return int(correct) / count


def evaluate_with_rates(network: QuantizedNetwork, samples: Samples, batch_size: int) -> tuple[float, dict[str, float]]:
    """(accuracy, firing rate of every layer: the share of spikes over all samples and time steps that are not zero)."""
    counts = {name: [0, 0] for name in network.layers}

    def counter(layer: QuantizedLayer, count: list[int]) -> Observer:
        def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
            nonzero, total = layer.count_spikes(x)
            count[0] += nonzero
            count[1] += total

        return observe

    with ExitStack() as stack:
        for name, layer in network.layers.items():
            layer.observer = counter(layer, counts[name])
            stack.callback(setattr, layer, "observer", None)
        accuracy = evaluate(network, samples, batch_size)
    return accuracy, {name: nonzero / max(total, 1) for name, (nonzero, total) in counts.items()}
