"""How networks are trained: a search space's ``[training]``."""

from typing import Literal

from pydantic import Field

from bitsearch.validation import Count, Frozen, Positive

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Training(Frozen):
    """How networks are trained."""

    batch_size: Count = 64
    """Samples a step, those of all processes together."""
    micro_batch: Count | None = None
    """A process passes at most this many samples through the network at once: less memory, the same gradient."""
    full_precision_epochs: int = Field(default=30, ge=0)
    """Of the network that every trial starts from; 0 takes given weights as they are."""
    epochs: Count = 20
    """Epochs of every quantized trial, search phase included; uniform baselines get the same number."""
    learning_rate: Positive = 2e-3
    weight_decay: float = Field(default=1e-4, ge=0)
    precision: Precision = "32-true"
    """In training; weights, steps, latents and the Fisher are float32 at any, and so is every measured accuracy."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Train with compiled quantizers; ``auto`` where the run is long enough to win the compilation back."""
    membrane_gradient: Literal["cut", "through_time"] = "cut"
    """Whether gradients go back through what a time step leaves on the membrane, or stop there, as published."""
    recompute: bool = False
    """Compute spikes and quantized weights again in backward: a third less memory, a few percent more time."""

    @property
    def at_once(self) -> int:
        """Samples that a measurement passes through the network at once."""
        return min(self.batch_size, self.micro_batch or self.batch_size)
