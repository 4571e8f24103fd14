"""Models of what an allocation of one layer adds to the training loss."""

from typing import Protocol


class LossModel(Protocol):
    """Predicts what an allocation of one layer adds to the training loss."""

    weight_tolerance: float
    """Share of the loss of fewer weight bits that counts in :meth:`weight_loss`: training wins the rest back."""

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Loss added by quantizing the layer's weights."""

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """Loss added by quantizing the layer's input, one bit width a time step."""


class LevelCount:
    """The loss model where nothing is measured: error falls with the square of the number of levels."""

    def __init__(self, weight_tolerance: float = 1.0) -> None:
        self.weight_tolerance = weight_tolerance

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Weight tolerance × 4^(−weight bits)."""
        return self.weight_tolerance * 4.0**-weight_bits

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """(Σ_t 2^spike bits)^(−2): the steps' levels add up."""
        return float(sum(2**bits for bits in spike_bits)) ** -2
