"""What a training tells after every epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch ended with."""

    phase: str
    epoch: int
    epochs: int
    loss: float
    """Mean training loss, penalties not included."""
    validation_score: float
    measures: dict[str, float] = field(default_factory=dict)
    """What the callbacks measured: cost, mean bits, renewals."""
    micro_batch: int | None = None
    """Most samples that a process passed through the network at once; None for all of a batch."""
    bits: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Every layer's weight bits, and spike bits step by step; empty where none have changed since the last record."""


OnEpoch = Callable[[EpochRecord], None]
