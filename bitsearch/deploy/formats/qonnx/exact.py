"""Currents themselves, as whole numbers in float64: below 2^50, so that every step on them is exact."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitsearch.deploy.formats.qonnx.graph import GraphBuilder
from bitsearch.deploy.formats.qonnx.sums import Affine, Sums
from bitsearch.deploy.integer.rounding import half


@dataclass(frozen=True)
class Exact:
    """A tensor of currents."""

    name: str
    reason: str = ""
    """What they are, where no threshold of a sum stands for them."""


class ExactNodes:
    """Nodes in float64, which leave whole numbers whole."""

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph

    def of(self, x: Sums | Exact, axes: int) -> Exact:
        """The currents that sums stand for, which have so many axes behind the batch."""
        import onnx

        if isinstance(x, Exact):
            return x
        name = self.graph.node("Cast", x.name, to=onnx.TensorProto.DOUBLE)
        for step in x.steps:
            if isinstance(step, Affine):
                shape = (-1, *[1] * (axes - 1))
                multiplier, shift, bias = (
                    array.numpy().reshape(shape) for array in (step.multiplier, step.shift, step.bias)
                )
                name = self.plus(self.rescaled(name, multiplier, shift), bias)
            else:
                name = self.graph.node("Relu", name)
        return Exact(name)

    def rescaled(self, x: str, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> str:
        """⌊(x·multiplier + ⌊2^shift / 2⌋) / 2^shift⌋."""
        halves = half(np.asarray(shift))  # type: ignore[arg-type]  # of arrays as well as of numbers
        product = self.plus(self.times(x, multiplier), halves)
        if not np.any(shift):
            return product
        return self.graph.node("Floor", self.times(product, 2.0 ** -np.asarray(shift)))

    def mean(self, x: Exact, axes: int, count: int, finer: int) -> Exact:
        """⌊(2·sum·2^finer + count) / (2·count)⌋ over the last ``axes``, which stay with a length of one."""
        last = self.graph.constant(range(-axes, 0), np.int64)
        total = self.graph.node("ReduceSum", x.name, last, keepdims=1)
        if count == 1 << finer:
            return Exact(total, x.reason)
        numerator = self.plus(self.times(total, 2 << finer), count)
        quotient = self.graph.node("Div", numerator, self.graph.constant(2 * count, np.float64))
        return Exact(self.graph.node("Floor", quotient), x.reason)

    def times(self, x: str, factor: npt.ArrayLike) -> str:
        """``x`` times a constant."""
        return self.graph.times(x, factor, np.float64)

    def plus(self, x: str, term: npt.ArrayLike) -> str:
        """``x`` and a constant."""
        return self.graph.plus(x, term, np.float64)
