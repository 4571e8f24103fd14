"""Calibrates the plans of one network, all alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.calibrate import CalibrationSamples, CalibrationStep, OnStep, calibrate
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan


@dataclass(frozen=True)
class Calibrated:
    """A network with a plan's bits, and what its calibration has done so far."""

    network: QuantizedNetwork
    steps: list[CalibrationStep]


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

    def nearest(self, plans: Sequence[Mapping[str, LayerPlan]]) -> Calibrated:
        """Of several plans, the one whose network comes nearest to the float one without a reconstruction."""
        return min(map(self._prepared, plans), key=lambda calibrated: calibrated.steps[-1].divergence)

    def reconstructed(self, calibrated: Calibrated, on_step: OnStep = lambda step: None) -> Calibrated:
        """The same network, with the reconstruction that was left out, where there is one."""
        return self._calibrated(calibrated.network, self.iterations, calibrated.steps, on_step)

    def _prepared(self, layers: Mapping[str, LayerPlan]) -> Calibrated:
        return self._calibrated(self.problem.quantized(layers), 0)

    def _calibrated(
        self,
        network: QuantizedNetwork,
        iterations: int,
        done: Sequence[CalibrationStep] = (),
        on_step: OnStep = lambda step: None,
    ) -> Calibrated:
        problem = self.problem
        steps = calibrate(
            network,
            problem.network,
            self.samples,
            problem.session.task,
            iterations=iterations,
            seed=problem.seed,
            on_step=on_step,
            done=done,
        )
        return Calibrated(network, steps)
