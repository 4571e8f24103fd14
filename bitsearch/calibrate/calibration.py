"""A whole calibration: its steps in order, each kept only if it brings the network nearer to the float one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bitsearch.calibrate.bias import correct_biases
from bitsearch.calibrate.reconstruction import reconstruct
from bitsearch.calibrate.samples import CalibrationSamples
from bitsearch.calibrate.statistics import reestimate_batch_norm, renew_steps
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.predict import predict
from bitsearch.train.tasks import LearningTask

ITERATIONS = 100
"""Of a reconstruction, by default."""
STEPS = ("step sizes", "batch norm", "biases", "reconstruction")
NEAR = 0.03
"""Of the float network's own spread: predictions that have come so near to its are not reconstructed, which wins no
accuracy there (``python -m benchmarks.reconstruction``)."""


@dataclass(frozen=True)
class CalibrationStep:
    """One step of a calibration."""

    name: str
    divergence: float
    """From the float network's predictions after it, of a held-out sample."""
    kept: bool


OnStep = Callable[[CalibrationStep], None]


def calibrate(
    quantized: QuantizedNetwork,
    network: nn.Module,
    samples: CalibrationSamples,
    task: LearningTask,
    *,
    iterations: int = ITERATIONS,
    seed: int = 0,
    on_step: OnStep = lambda step: None,
    done: Sequence[CalibrationStep] = (),
) -> list[CalibrationStep]:
    """Calibrate a quantized copy of a trained network, in place, without labels.

    Step sizes by renewal, batch norm re-estimated, biases corrected, then rounding and step sizes reconstructed. A step
    after the first is undone where the held-out samples' predictions come to lie farther from the float network's. The
    reconstruction, by far the longest step, is left out where they lie within :data:`NEAR` of it before.

    Args:
        quantized: with its bits and the float network's weights.
        network: the float one, left as it is.
        samples: on the networks' device.
        task: whose divergence counts: Kullback-Leibler's for cross-entropy.
        iterations: of the reconstruction; 0 leaves it out.
        seed: of its draws.
        on_step: told after every step.
        done: what a calibration without a reconstruction has done to the network before; it goes on from there.

    Returns:
        All steps, those of ``done`` first.
    """
    steps: dict[str, Callable[[], None]] = {
        "step sizes": lambda: renew_steps(quantized, samples),
        "batch norm": lambda: reestimate_batch_norm(quantized, samples),
        "biases": lambda: correct_biases(quantized, network, samples),
        "reconstruction": lambda: reconstruct(quantized, network, samples, task, iterations=iterations, seed=seed),
    }
    history = list(done)
    with eval_mode(quantized), eval_mode(network):
        for name in STEPS[len(history) :]:
            if name == "reconstruction" and (
                not iterations or history[-1].divergence <= NEAR * held_out_spread(network, samples, task)
            ):
                continue
            before = {key: value.clone() for key, value in quantized.state_dict().items()}
            steps[name]()
            divergence = held_out_divergence(quantized, network, samples, task)
            # What is not a number is kept by no comparison.
            kept = not history or divergence < history[-1].divergence
            if not kept:
                quantized.load_state_dict(before)
                divergence = history[-1].divergence
            history.append(CalibrationStep(name, divergence, kept))
            on_step(history[-1])
    return history


@torch.no_grad()
def held_out_divergence(
    quantized: QuantizedNetwork, network: nn.Module, samples: CalibrationSamples, task: LearningTask
) -> float:
    """Of a sample's prediction from the float network's, over the held-out ones; both in evaluation mode."""
    total, count = 0.0, 0
    for part in samples.parts(samples.held_out):
        prediction, changed = (predict(each, part, task.form) for each in (network, quantized))
        total += float(task.loss.divergence(prediction.double(), changed.double()))
        count += len(changed)
    return total / count


@torch.no_grad()
def held_out_spread(network: nn.Module, samples: CalibrationSamples, task: LearningTask) -> float:
    """By how far a held-out sample's prediction is from the mean prediction: what a divergence is small beside."""
    predictions = torch.cat([predict(network, part, task.form).double() for part in samples.parts(samples.held_out)])
    mean = predictions.mean(0, keepdim=True).expand_as(predictions)
    return float(task.loss.divergence(predictions, mean)) / len(predictions)
