"""Calibrates the plans of one network, all alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.calibrate import CalibrationSamples, CalibrationStep, OnStep, calibrate
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan


@dataclass(frozen=True)
class Calibrator:
    """Of one network.

    Args:
        problem: of the network, on its calibration samples.
        samples: the same.
        iterations: of a reconstruction.
    """

    problem: AllocationProblem
    samples: CalibrationSamples
    iterations: int

    def __call__(
        self, layers: Mapping[str, LayerPlan], on_step: OnStep = lambda step: None, *, reconstructs: bool = True
    ) -> tuple[QuantizedNetwork, list[CalibrationStep]]:
        """(a copy of the float network with a plan's bits, calibrated; what its calibration did)."""
        problem = self.problem
        quantized = problem.quantized(layers)
        steps = calibrate(
            quantized,
            problem.network,
            self.samples,
            problem.session.task,
            iterations=self.iterations if reconstructs else 0,
            seed=problem.seed,
            on_step=on_step,
        )
        return quantized, steps

    def nearest(self, plans: Sequence[Mapping[str, LayerPlan]]) -> Mapping[str, LayerPlan]:
        """Of several plans, the one whose network comes nearest to the float one without a reconstruction."""
        if len(plans) == 1:
            return plans[0]
        return min(plans, key=lambda layers: self(layers, reconstructs=False)[1][-1].divergence)
