"""Scores of a network over a split: added up batch by batch, and resampled to see what chance does to them."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bitsearch.errors import InputError, located
from bitsearch.network_inputs import is_dense
from bitsearch.score import Score
from bitsearch.train.predict import describe_output

if TYPE_CHECKING:
    from torchmetrics import Metric

RESAMPLES = 1000
"""Bootstrap replicates of a score."""


class NoNumberError(InputError):
    """A metric gives something else than one number."""


class Scoring(ABC):
    """What a task's score is made of: numbers a sample that are added up, or all outputs at once."""

    score: Score
    additive: bool = True
    """Whether :meth:`states` exist; without, a score takes all outputs together and :attr:`score` has no interval."""

    @abstractmethod
    def states(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What is summed over samples, ``[K]`` in float64 on the CPU, of a batch of outputs ``[N, ...]``."""

    @abstractmethod
    def value(self, sums: Tensor) -> float:
        """The score of summed states, ``[K]``."""

    def of_all(self, outputs: Tensor, targets: Tensor) -> float:
        """The score of all outputs together, where :attr:`additive` is False."""
        return self.value(self.states(outputs, targets))

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """States of every sample, ``[N, K]``."""
        return torch.stack([self.states(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(outputs))])

    def row(self, states: Tensor) -> Tensor:
        """What a run keeps of a network's test samples: the score, then replicates of it, ``[1 + RESAMPLES]``.

        Replicates of two networks are of the same samples, so that their differences are those of pairs.

        Args:
            states: of every sample, ``[N, K]``.
        """
        generator = torch.Generator().manual_seed(0)
        replicates = [self.value(states.sum(0))]
        for _ in range(RESAMPLES):
            drawn = torch.randint(len(states), (len(states),), generator=generator)
            replicates.append(self.value(states[drawn].sum(0)))
        return torch.tensor(replicates, dtype=torch.float64)


class TopAccuracy(Scoring):
    """Share of samples whose label is among the k largest logits ``[N, classes]``; of 1, the largest is it."""

    def __init__(self, k: int = 1) -> None:
        self.k = k
        self.score = Score() if k == 1 else Score(name=f"top-{k} accuracy")

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which samples are, bool ``[N]``; soft labels count as their largest."""
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        if self.k == 1:
            return outputs.argmax(-1) == labels
        k = min(self.k, outputs.shape[-1])
        return (outputs.topk(k, -1).indices == labels.unsqueeze(-1)).any(-1)

    def states(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Correct samples and all samples."""
        counted = ~targets.isnan().any(1) if targets.is_floating_point() else targets >= 0
        correct = (self.correct(outputs, targets) & counted).sum()
        return torch.tensor([int(correct), int(counted.sum())], dtype=torch.float64)

    def value(self, sums: Tensor) -> float:
        """Their ratio."""
        correct, samples = sums.tolist()
        return float(correct / samples)

    def row(self, states: Tensor) -> Tensor:
        """Which samples were right, bool ``[N]``: what exact intervals are made of."""
        return states[:, 0] > 0


class TorchmetricsScore(Scoring):
    """A metric of torchmetrics.

    Args:
        make: a new one.
        score: what it is.
        ready: brings outputs and targets to the shapes that it takes.
    """

    def __init__(
        self,
        make: Callable[[], "Metric"],
        score: Score,
        ready: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda outputs, targets: (outputs, targets),
    ) -> None:
        self.score, self.ready = score, ready
        self.metric = make()
        self.additive = _merges_by_sum(self.metric)

    def _updated(self, outputs: Tensor, targets: Tensor) -> None:
        self.metric.reset()
        outputs, targets = self.ready(outputs.detach().cpu(), targets.cpu())
        with self._located():
            if len(outputs):
                self.metric.update(outputs, targets)

    def _computed(self) -> float:
        with self._located():
            value = self.metric.compute()
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            return float(value)
        raise NoNumberError(
            f"task.metric {self.score.name!r} gives {describe_output(value)}; give one that gives one number, such as "
            "by task.metric_options"
        )

    @contextmanager
    def _located(self) -> Iterator[None]:
        """InputError with the place for what the metric raises."""
        try:
            yield
        except Exception as error:
            raise InputError(f"task.metric {self.score.name!r} failed at {located(error)}") from error

    def states(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The metric's own, flat."""
        self._updated(outputs, targets)
        return torch.cat([torch.as_tensor(state).double().flatten() for state in self.metric.metric_state.values()])

    def value(self, sums: Tensor) -> float:
        """The metric of these states."""
        self.metric.reset()
        state, start = {}, 0
        for name, empty in self.metric.metric_state.items():
            assert isinstance(empty, Tensor)
            part = sums[start : start + empty.numel()].view(empty.shape)
            start += empty.numel()
            state[name] = part.to(empty.dtype) if empty.is_floating_point() else part.round().to(empty.dtype)
        self.metric.merge_state(state)
        with warnings.catch_warnings():
            # States come from elsewhere, which is not counted as an update.
            warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)
            return self._computed()

    def of_all(self, outputs: Tensor, targets: Tensor) -> float:
        """The metric of all outputs."""
        self._updated(outputs, targets)
        return self._computed()


def _merges_by_sum(metric: "Metric") -> bool:
    """Whether the metric of several sets of samples is that of the sums of their states, which are tensors then."""
    empty = {name: state for name, state in metric.metric_state.items() if isinstance(state, Tensor)}
    if not empty or len(empty) < len(metric.metric_state):
        return False
    ones = {name: torch.ones_like(state) for name, state in empty.items()}
    try:
        metric.merge_state(ones)
        metric.merge_state(ones)
        merged = metric.metric_state
        return all(torch.equal(torch.as_tensor(merged[name]), empty[name] + 2) for name in empty)
    except Exception:
        # Metrics that cannot be merged at all say so.
        return False
    finally:
        metric.reset()


class OwnScore(Scoring):
    """A function (outputs, targets) of the user's: one number a sample, which are averaged, or one for all.

    Args:
        function: gets the outputs ``[N, ...]`` and targets of a whole split, on the CPU.
        score: what it is.
        name: of the function, for messages.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], score: Score, name: str) -> None:
        self.function, self.score, self.name, self.additive = function, score, name, False

    def _called(self, outputs: Tensor, targets: Tensor) -> Tensor:
        try:
            result = torch.as_tensor(self.function(outputs.detach().cpu(), targets.cpu()))
            result = result.double() if is_dense(result) else result
        except (Exception, SystemExit) as error:
            raise InputError(f"task.metric {self.name!r} failed at {located(error)}") from error
        if is_dense(result) and (result.dim() == 0 or result.shape == (len(outputs),)):
            return result
        kind = f"a tensor {list(result.shape)}" if is_dense(result) else "no dense tensor"
        raise NoNumberError(
            f"task.metric {self.name!r} returned {kind} for {len(outputs)} samples; return one number a sample, or one "
            "for all"
        )

    def states(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum of the samples' numbers, and how many they are."""
        result = self._called(outputs, targets)
        return torch.stack([result.mean() * len(outputs), result.new_tensor(len(outputs))])

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of every sample; none where the function returns one number for all."""
        result = self._called(outputs, targets)
        return torch.stack([result, torch.ones_like(result)], 1) if result.dim() else torch.empty(0, 2)

    def value(self, sums: Tensor) -> float:
        """Their mean."""
        total, samples = sums.tolist()
        return float(total / samples)

    def of_all(self, outputs: Tensor, targets: Tensor) -> float:
        """The function's number, or the mean of its numbers."""
        return float(self._called(outputs, targets).mean())


def finite(value: float, score: Score, samples: int) -> float:
    """The score; InputError if it is none."""
    if math.isfinite(value):
        return value
    raise InputError(
        f"the {score.name} is {value} on {samples} samples; a metric has to be a finite number for any outputs "
        "(task.metric)"
    )
