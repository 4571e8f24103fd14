"""A network in a loop over its frames and the same in multi-step mode, on spoken digits: equal logits, equal plans.

    python -m benchmarks.twins --recordings FOLDER

FOLDER has the recordings of the Free Spoken Digit Dataset, ``DIGIT_SPEAKER_INDEX.wav``, mono, 16 bit, 8 kHz. They
become ON and OFF events: crossings of thresholds by the logarithm of the energy in bands, 32 frames of 20 ms.
Recordings 0 to 4 of each speaker and digit are the test part, 5 to 9 are for validation. The float network is trained
in multi-step mode. Both forms then get the same bits; their largest difference in logits is shown as a share of the
largest logit, and each form's state is loaded by the other. Last, both are allocated and trained by ``adaptive``.
"""

import argparse
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.evidence import figures
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.methods.adaptive import allocate_adaptively
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.data import Splits, batches
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import UniformBits
from bitsearch.space import Allocation, SearchSpace
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import train
from bitsearch.train.predict import predict
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

FRAMES, HOP, BANDS, RATE = 32, 160, 16, 8000
THRESHOLD = 1.0
"""Nepers of energy between two events."""


def events(file: Path) -> Tensor:
    """``[F, 2·bands]``: ON and OFF crossings of a recording's log energies since the frame before."""
    with wave.open(str(file), "rb") as recording:
        samples = np.frombuffer(recording.readframes(recording.getnframes()), dtype="<i2") / 2.0**15
    samples = np.pad(samples, (0, max(0, HOP * (FRAMES + 1) - len(samples))))[: HOP * (FRAMES + 1)]
    windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * HOP)[::HOP][:FRAMES] * np.hanning(2 * HOP)
    power = np.abs(np.fft.rfft(windows)) ** 2
    # Equally wide bands of the mel scale.
    edges = 700 * (np.exp(np.linspace(0, np.log(1 + RATE / 2 / 700), BANDS + 1)) - 1)
    bins = np.round(edges / (RATE / 2) * (power.shape[1] - 1)).astype(int)
    bands = np.stack([power[:, low : max(low + 1, high)].sum(1) for low, high in pairwise(bins)], 1)
    levels = np.floor(np.log(bands + 1e-4) / THRESHOLD)
    change = np.diff(levels, axis=0, prepend=levels[:1])
    return torch.from_numpy(np.concatenate([change.clip(min=0), (-change).clip(min=0)], 1)).float()


def spoken_digits(folder: Path) -> Splits:
    """The official test part, and as many recordings for validation."""
    parts: list[list[tuple[Tensor, int]]] = [[], [], []]
    for file in sorted(folder.glob("*.wav")):
        digit, _, index = file.stem.split("_")
        parts[0 if int(index) > 9 else 1 if int(index) > 4 else 2].append((events(file), int(digit)))
    train_part, validation, test = (
        TensorDataset(torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])) for part in parts
    )
    return Splits(train_part, validation, test, input_shape=(FRAMES, 2 * BANDS), classes=10, frames=FRAMES)


def leaky() -> nn.Module:
    """A neuron that remembers about eight frames."""
    return neuron.LIFNode(tau=8.0, decay_input=False, detach_reset=True)


class StepByStep(nn.Module):
    """Single-step layers in a loop."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            layer.Linear(2 * BANDS, hidden), leaky(), layer.Linear(hidden, hidden), leaky(), layer.Linear(hidden, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every frame."""
        return torch.stack([self.layers(frame) for frame in x])


class MultiStep(StepByStep):
    """Each layer gets all frames."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__(hidden)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every frame."""
        return self.layers(x)  # type: ignore[no-any-return]


def problem(network: nn.Module, splits: Splits, request: str, epochs: int) -> AllocationProblem:
    """An allocation whose layers have a time step a frame: a loop has no fewer."""
    space = SearchSpace(
        name="twins",
        network=type(network).__name__,
        data="spoken digits",
        baseline=UniformBits(weight_bits=8, spike_bits=4, time_steps=FRAMES),
        choices=Choices(time_steps=Span(low=FRAMES, high=FRAMES)),
        first_layer=FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES),
        training=Training(batch_size=64, learning_rate=2e-3, epochs=epochs),
        allocation=Allocation(start=UniformBits(weight_bits=4, spike_bits=4, time_steps=FRAMES)),
    )
    inputs, _ = next(iter(batches(splits.train, 32)))
    model = CostModel(trace(network, inputs, time_axis=True))
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    budget = Budget.parse(request, "bit_budget", model, space.baseline)
    session = TrainingSession(splits, space.training)
    return AllocationProblem(network, model, rules, session, space, space.allocation, [budget], seed=0)


@torch.no_grad()
def compare(twins: list[AllocationProblem], bits: UniformBits, inputs: Tensor, folder: Path) -> list[object]:
    """A row: bits, and the largest differences in logits, in the state of the same name and after an exchange of it."""
    plans = [twin.plan(bits) for twin in twins]
    networks = [twin.quantized(plan).eval() for twin, plan in zip(twins, plans, strict=True)]
    logits = [predict(network, inputs) for network in networks]
    scale = float(logits[0].abs().max())
    cells = [float((logits[0] - logits[1]).abs().max()) / scale]
    for source, target in ((0, 1), (1, 0)):
        save_weights(networks[source].network, folder / "state.safetensors")
        other = twins[target].quantized(plans[target]).eval()
        load_weights(other.network, folder / "state.safetensors")
        cells.append(float((predict(other, inputs) - logits[source]).abs().max()) / scale)
    alike = all(
        plans[0][name].model_copy(update={"loop": None}) == plans[1][name].model_copy(update={"loop": None})
        for name in plans[0]
    )
    return [str(bits), "equal" if alike else "different", *(f"{cell:.1e}" for cell in cells)]


def main() -> None:
    """Train, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--budget", default="4x")
    parser.add_argument("--out", type=Path, required=True, help="folder for states")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    splits = spoken_digits(arguments.recordings)
    torch.manual_seed(0)
    whole, loop = MultiStep(), StepByStep()
    settings = Training(batch_size=64, learning_rate=2e-3)
    train(whole, TrainingSession(splits, settings), epochs=arguments.epochs, seed=0, phase="full precision")
    loop.load_state_dict(whole.state_dict())
    inputs = torch.stack([x for x, _ in [splits.test[i] for i in range(200)]]).transpose(0, 1)
    twins = [problem(network, splits, arguments.budget, max(1, arguments.epochs // 4)) for network in (whole, loop)]
    rows = [
        compare(twins, UniformBits(weight_bits=w, spike_bits=s, time_steps=FRAMES), inputs, arguments.out)
        for w, s in ((8, 8), (8, 1), (4, 4), (4, 2), (2, 1))
    ]
    heads = ["bits", "plans", "logits, same weights", "multi-step state in the loop", "loop's state in multi-step"]
    print(f"Full precision: test {100 * evaluate(whole, splits.test, 64):.2f} %, {machine()}\n")
    print(figures.table(heads, rows))
    allocated = []
    for twin in twins:
        (quantized,) = allocate_adaptively(twin)
        accuracies = (evaluate(quantized, part, 64) for part in (splits.validation, splits.test))
        text = " ".join(
            f"{plan.weight_bits}/{plan.mean_spike_bits:.2f}/{plan.time_steps}"
            for plan in quantized.layer_plans.values()
        )
        allocated.append([type(twin.network).__name__, text, *(f"{100 * value:.2f}" for value in accuracies)])
    print("\n" + figures.table([f"allocated at {arguments.budget}", "w/s/T", "validation %", "test %"], allocated))
    print(f"\nMade by {made_by()}.")


if __name__ == "__main__":
    main()
