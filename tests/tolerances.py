"""What two computations of the same number may differ by: derived from the roundings, whatever kernels torch picks.

In which order terms are added up depends on the processor, on the number of threads and on how a batch is cut. Whatever
it is, a sum of n terms is off by at most γ_n·Σ|terms| with γ_n = n·u/(1 − n·u), u the largest relative error of one
rounding; so is a product of n factors, relative to itself (Higham, Accuracy and Stability of Numerical Algorithms,
2nd edition, 2002, sections 3.1 and 4.2).

No such bound holds across a quantizer: a value at a rounding boundary jumps by a whole step. Computations whose order
differs and that pass through one are compared in float64, where the order moves a value by some 1e-15 of itself, so
that any of a million values crosses a boundary with a probability of 1e-9; or in what must be equal exactly.

Two bounds are taken as they come, for a handful of operations on numbers that do not cancel: pytest.approx's own, 1e-6
relative, is 16 roundings of float32; torch.testing.assert_close's own is 1.3e-6 relative, 21 roundings, and 1e-5
absolute, a sum of 80 terms whose magnitudes come to one. For float64 both are far wider than any sum here.
"""

import torch


def rounding(operations: int, dtype: torch.dtype = torch.float32) -> float:
    """γ_n: relative error of n operations in a row, or of a sum of n terms relative to the sum of their magnitudes."""
    unit = torch.finfo(dtype).eps / 2
    return operations * unit / (1 - operations * unit)


FLOAT64 = rounding(10**6, torch.float64)
"""1.1e-10, of a million operations in float64: no computation here is longer, and no wrong formula comes as close."""


def summed(terms: int, magnitude: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """For assert_close and assert_allclose: two sums of the same terms, in any order; Σ|terms| is ``magnitude``."""
    return {"rtol": 0.0, "atol": 2 * rounding(terms, dtype) * magnitude}


def chained(operations: int, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """For assert_close and assert_allclose: results of so many operations in a row, nothing of which cancels."""
    return {"rtol": 2 * rounding(operations, dtype), "atol": 0.0}


NORMALIZED = summed(8, 10.0)
"""For assert_close: of inputs in float32, a pixel less a mean, in deviations; both come to ten of them at most."""
