r"""Step sizes from the logarithms that are learned of them: any, or powers of two.

.. math::
    s = e^{\ell}, \qquad s = 2^{\mathrm{round}(\ell / \ln 2)}, \quad \frac{\partial s}{\partial \ell} := s

Division by a power of two is a shift. The exponent is rounded with a straight-through gradient on the logarithm (Jain
et al. 2019, arXiv 1903.08066, "Trained Quantization Thresholds").
"""

import math

import torch
from torch import Tensor

LN2 = math.log(2.0)


def step_size(log_step: Tensor, *, power_of_two: bool = False) -> Tensor:
    """The step sizes of natural logarithms of any shape; with ``power_of_two`` the nearest ones, on that scale.

    >>> step_size(torch.tensor([-0.6, 0.2]), power_of_two=True)
    tensor([0.5000, 1.0000])
    """
    if not power_of_two:
        return log_step.exp()
    # Times exactly 1, which has the gradient of the logarithm.
    return nearest_power(log_step.detach()) * (log_step - log_step.detach()).exp()


def nearest_power(log_step: Tensor) -> Tensor:
    """2^round(ℓ / ln 2), exactly, without a gradient; shaped like ``log_step``."""
    return torch.exp2(torch.round(log_step / LN2))


def powers_between(least: float, largest: float) -> Tensor:
    """The powers of two from ``least`` > 0 to the first at or above ``largest``, rising."""
    return torch.exp2(torch.arange(math.ceil(math.log2(least)), math.ceil(math.log2(largest)) + 1.0))
