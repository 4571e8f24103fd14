"""A network in a loop over its frames and the same in multi-step mode, on spoken digits: equal logits, equal plans.

    python -m benchmarks.twins --recordings FOLDER

FOLDER has the recordings of the Free Spoken Digit Dataset, of which ``data = "fsdd"`` makes ON and OFF events in 16
bands, 32 frames of 20 ms. The float network is trained in multi-step mode. Both forms then get the same bits; their
largest difference in logits is shown as a share of the largest logit, and each form's state is loaded by the other.
Last, both are allocated and trained by ``adaptive``.
"""

import argparse
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from benchmarks.evidence import figures
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.methods.adaptive import allocate_adaptively
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, trace
from bitsearch.data import Splits, batches, load_data
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import train
from bitsearch.train.predict import predict
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

FRAMES, BANDS = 32, 16


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
    options = {"root": str(arguments.recordings), "features": "events", "bands": BANDS}
    splits = load_data("fsdd", options, split_seed=0)
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
