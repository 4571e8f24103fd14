"""Soft weights: a quantized layer whose weights go through :mod:`bitsearch.quant.sigmoid` while they are trained.

In training mode the layer uses the soft steps, in evaluation mode the hard ones.
:meth:`bitsearch.layers.quantized.QuantizedLayer.harden` writes the
hard values into the layer and its step size, α: what is left is an ordinary quantized layer with the same output, which
a plan describes and a packed file holds.
"""

from torch import Tensor, nn

from bitsearch.quant.sigmoid import hard_codes, sigmoid_levels, sigmoid_scale, sigmoid_thresholds, soft_quantize
from bitsearch.quant.step_sizes import step_size


class SoftWeights(nn.Module):
    """α and β of one layer, learned as logarithms; thresholds and levels stay.

    Args:
        weight: the layer's real-valued weights, to start from.
        bits: of the layer's weights.
        largest: as for :func:`bitsearch.quant.sigmoid.sigmoid_levels`.
        power_of_two: whether α, the step size that is left, is a power of two.
    """

    def __init__(self, weight: Tensor, bits: int, largest: int | None = None, *, power_of_two: bool = False) -> None:
        super().__init__()
        self.power_of_two = power_of_two
        levels = sigmoid_levels(bits, largest).to(weight.device)
        beta = sigmoid_scale(weight, levels)
        self.log_beta = nn.Parameter(beta.log())
        self.log_alpha = nn.Parameter(-beta.log())
        self.levels, self.thresholds = levels, sigmoid_thresholds(beta * weight, levels)
        self.temperature = 1.0
        self.soft_in_evaluation = False
        """Measures what soft steps would reach."""

    def forward(self, weight: Tensor) -> Tensor:
        """The quantized weights, shaped like ``weight``."""
        alpha, beta = step_size(self.log_alpha, power_of_two=self.power_of_two), self.log_beta.exp()
        if not (self.training or self.soft_in_evaluation):
            return alpha * hard_codes(weight, beta, self.thresholds, self.levels)
        return soft_quantize(weight, alpha, beta, self.thresholds, self.levels, self.temperature)
