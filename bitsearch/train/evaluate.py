"""Measuring a network: its score, and how often its neurons fire."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsearch.cost import SpikeStatistics
from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.distributed import all_reduce_sum, rank, world_size
from bitsearch.errors import DivergedError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.layers.clipped_input import warn_of_clipped
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import ArrivalObserver, Observer, QuantizedLayer
from bitsearch.layers.spike_counts import nonzero_counts
from bitsearch.network_inputs import Inputs, moved
from bitsearch.train.predict import check_rows, over_steps, predict, run
from bitsearch.train.tasks import CLASSIFICATION, LearningTask
from bitsearch.train.tasks.scores import OwnScore, TopAccuracy, finite


@torch.no_grad()
def score_row(network: nn.Module, samples: Samples, batch_size: int, task: LearningTask = CLASSIFICATION) -> Tensor:
    """What a run keeps of a network's score on its test samples; modes stay as they were.

    Bool ``[N]`` of accuracy: which samples are right. Of other scores float64: the score, and its bootstrap replicates
    where it is a sum over samples.
    """
    scoring = task.scoring
    with eval_mode(network):
        pairs = _pairs(network, samples, batch_size, task)
        if isinstance(scoring, TopAccuracy):
            return torch.cat([scoring.correct(outputs, targets) for outputs, targets in pairs])
        if scoring.additive:
            states = torch.cat([scoring.each(outputs, targets) for outputs, targets in pairs])
        else:
            outputs, targets = _together(pairs)
            states = scoring.each(outputs, targets) if isinstance(scoring, OwnScore) else torch.empty(0, 2)
            if not len(states):
                value = finite(scoring.of_all(outputs, targets), scoring.score, len(targets))
                return torch.tensor([value], dtype=torch.float64)
    row = scoring.row(states)
    finite(float(row[0]), scoring.score, len(samples))
    return row


@torch.no_grad()
def evaluate(
    network: nn.Module,
    samples: Samples,
    batch_size: int,
    *,
    shared: bool = False,
    task: LearningTask = CLASSIFICATION,
) -> float:
    """The task's score, by default the share of samples whose largest logit is their label; modes stay as they were.

    ``shared``: all processes call this, each measures its share, and all get the same result.

    Raises:
        InputError: the score is not a finite number.
    """
    scoring = task.scoring
    share = (rank(), world_size()) if shared and scoring.additive else (0, 1)
    with eval_mode(network):
        pairs = _pairs(network, samples, batch_size, task, share)
        measure = scoring.states if scoring.additive else scoring.of_all
        measured, lost = [], 0
        for outputs, targets in pairs if scoring.additive else [_together(pairs)]:
            of_batch = int(outputs.isnan().flatten(1).any(1).sum())
            lost += of_batch
            if of_batch == 0:
                measured.append(measure(outputs, targets))
    everywhere = shared and scoring.additive
    if everywhere:
        lost = int(_summed(torch.tensor(lost), network))
    if lost:
        raise DivergedError(
            f"the network returns NaN for {lost} of {len(samples)} samples; lower training.learning_rate, or check "
            "the weights"
        )
    if scoring.additive:
        sums = torch.stack(measured).sum(0)  # type: ignore[arg-type]  # tensors where scores are additive
        value = scoring.value(_summed(sums, network) if everywhere else sums)
    else:
        value = float(measured[0])
    warn_of_clipped(network)
    return finite(value, scoring.score, len(samples))


def _pairs(
    network: nn.Module, samples: Samples, batch_size: int, task: LearningTask, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """(outputs, targets) of all batches, on the CPU."""
    device = next(network.parameters()).device
    for inputs, targets in batches(samples, batch_size, share=share):
        outputs = over_steps(predict(network, moved(inputs, device), task.form), task.form).float().cpu()
        check_rows(outputs, targets, task.form)
        yield outputs, targets.cpu()


def _together(pairs: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def _summed(sums: Tensor, network: nn.Module) -> Tensor:
    """Over all processes, on the device that their backend speaks of."""
    return all_reduce_sum(sums.to(next(network.parameters()).device)).cpu()


def evaluate_with_activity(
    network: QuantizedNetwork,
    samples: Samples,
    batch_size: int,
    *,
    shared: bool = False,
    task: LearningTask = CLASSIFICATION,
) -> tuple[float, SpikeStatistics]:
    """(score, what spikes were counted over all samples and time steps); as for :func:`evaluate`."""
    with _counted(network) as counts:
        score = evaluate(network, samples, batch_size, shared=shared and task.scoring.additive, task=task)
    return score, _activity(network, counts, shared and task.scoring.additive)


def score_row_with_activity(
    network: QuantizedNetwork, samples: Samples, batch_size: int, task: LearningTask = CLASSIFICATION
) -> tuple[Tensor, SpikeStatistics]:
    """(:func:`score_row`, what spikes were counted over all samples and time steps), in one pass over the samples."""
    with _counted(network) as counts:
        row = score_row(network, samples, batch_size, task)
    warn_of_clipped(network)
    return row, _activity(network, counts, shared=False)


@torch.no_grad()
def measure_activity(network: QuantizedNetwork, *parts: Inputs, shared: bool = False) -> SpikeStatistics:
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
            run(network, inputs)
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
            nonzero, total, operations = layer.count(x, spikes)
            count.nonzero += nonzero
            count.spikes += total
            count.operations += operations

        return observe

    def arrivals(layer: QuantizedLayer, count: _Count) -> ArrivalObserver:
        def observe(spikes: Tensor) -> None:
            # Of a mean over time steps no single one is known: what is not zero counts at all of them.
            steps = 1 if layer.frames is not None else layer.active_steps
            fired = nonzero_counts(spikes)
            count.nonzero += steps * int(fired.sum())
            count.spikes += steps * spikes.numel()
            count.operations += steps * layer.connections(fired)

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
