"""Calibration: a trained network's copy with few bits, brought near to it by some hundred samples, without training."""

from bitsearch.calibrate.calibration import ITERATIONS, STEPS, CalibrationStep, OnStep, calibrate
from bitsearch.calibrate.samples import CalibrationSamples, calibration_splits

__all__ = [
    "ITERATIONS",
    "STEPS",
    "CalibrationSamples",
    "CalibrationStep",
    "OnStep",
    "calibrate",
    "calibration_splits",
]
