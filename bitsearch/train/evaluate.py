"""Measuring a network: accuracy, and how often its neurons fire."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsearch.cost import SpikeStatistics
from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.distributed import all_reduce_sum, rank, world_size
from bitsearch.errors import InputError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.layers.clipped_input import warn_of_clipped
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import ArrivalObserver, Observer, QuantizedLayer
from bitsearch.train.predict import predict


@torch.no_grad()
def correct_samples(network: nn.Module, samples: Samples, batch_size: int) -> Tensor:
    """Which samples have their label as the largest logit, bool ``[N]`` on the CPU; modes stay as they were."""
    device = next(network.parameters()).device
    with eval_mode(network):
        correct = [
            _correct(network, inputs.to(device), labels.to(device)) for inputs, labels in batches(samples, batch_size)
        ]
    return torch.cat(correct).cpu()


@torch.no_grad()
def evaluate(network: nn.Module, samples: Samples, batch_size: int, *, shared: bool = False) -> float:
    """Share of samples whose largest logit is their label; modes stay as they were.

    ``shared``: all processes call this, each measures its share, and all get the same result.
    """
    device = next(network.parameters()).device
    correct = torch.zeros((), dtype=torch.long, device=device)
    share = (rank(), world_size()) if shared else (0, 1)
    with eval_mode(network):
        for inputs, labels in batches(samples, batch_size, share=share):
            correct += _correct(network, inputs.to(device), labels.to(device)).sum()
    warn_of_clipped(network)
    return int(all_reduce_sum(correct) if shared else correct) / len(samples)  # type: ignore[arg-type]


def _correct(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Bool ``[N]``; InputError where the logits are not one row a sample, since they would be repeated to fit."""
    logits = predict(network, inputs)
    if len(logits) != len(labels):
        raise InputError(f"the network returns {len(logits)} rows of logits for {len(labels)} samples; give one each")
    return logits.argmax(-1) == labels


def evaluate_with_activity(
    network: QuantizedNetwork, samples: Samples, batch_size: int, *, shared: bool = False
) -> tuple[float, SpikeStatistics]:
    """(accuracy, what spikes were counted over all samples and time steps); ``shared`` as for :func:`evaluate`."""
    with _counted(network) as counts:
        accuracy = evaluate(network, samples, batch_size, shared=shared)
    return accuracy, _activity(network, counts, shared)


@torch.no_grad()
def measure_activity(network: QuantizedNetwork, *parts: Tensor, shared: bool = False) -> SpikeStatistics:
    """What spikes are counted on one batch, ``[N, ...]`` or ``[T, N, ...]``, or on its parts; modes stay as they were.

    ``shared``: the parts are this process's share of a batch, and all get the whole batch's counts.

    >>> images = torch.rand(16, 1, 8, 8)
    >>> layers = torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)
    >>> network = torch.nn.Sequential(*layers)
    >>> quantized = bitsearch.quantize(network, images)
    >>> quantized.activity = bitsearch.measure_activity(quantized, images)
    >>> 0.0 <= quantized.activity.firing_rate["3"] <= 1.0
    True
    """
    with _counted(network) as counts, eval_mode(network):
        for inputs in parts:
            predict(network, inputs)
    return _activity(network, counts, shared)


@dataclass
class _Count:
    """Of one layer: non-zero spikes, all spikes, synaptic operations."""

    nonzero: int = 0
    spikes: int = 0
    operations: int = 0


@contextmanager
def _counted(network: QuantizedNetwork) -> Iterator[dict[str, _Count]]:
    counts = {name: _Count() for name in network.layers}

    def counter(layer: QuantizedLayer, count: _Count) -> Observer:
        def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
            nonzero, total = layer.count_spikes(x)
            count.nonzero += nonzero
            count.spikes += total
            count.operations += layer.count_synops(x)

        return observe

    def arrivals(layer: QuantizedLayer, count: _Count) -> ArrivalObserver:
        def observe(spikes: Tensor) -> None:
            # Of a mean over time steps no single one is known: what is not zero counts at all of them.
            steps = 1 if layer.frames is not None else layer.active_steps
            count.nonzero += steps * int(torch.count_nonzero(spikes))
            count.spikes += steps * spikes.numel()
            count.operations += steps * layer.connections((spikes != 0).double())

        return observe

    with ExitStack() as stack:
        for name, layer in network.layers.items():
            if layer.in_place:
                layer.arrival_observer = arrivals(layer, counts[name])
                stack.callback(setattr, layer, "arrival_observer", None)
            else:
                layer.observer = counter(layer, counts[name])
                stack.callback(setattr, layer, "observer", None)
        yield counts


def _activity(network: QuantizedNetwork, counts: dict[str, _Count], shared: bool) -> SpikeStatistics:
    if shared and world_size() > 1:
        # On the device that the processes' backend speaks of.
        device = next(network.parameters()).device
        table = torch.tensor([[count.nonzero, count.spikes, count.operations] for count in counts.values()])
        counts = {
            name: _Count(*row) for name, row in zip(counts, all_reduce_sum(table.to(device)).tolist(), strict=True)
        }
    firing, synaptic = {}, {}
    for geometry in network.model.layers:
        count = counts[geometry.name]
        # All spikes are the layer's inputs, once a sample and time step.
        connections = count.spikes / max(geometry.inputs, 1) * geometry.macs
        firing[geometry.name] = count.nonzero / max(count.spikes, 1)
        synaptic[geometry.name] = count.operations / max(connections, 1)
    return SpikeStatistics(firing, synaptic)
