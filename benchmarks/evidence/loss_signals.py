"""Every signal as a loss model, measured on a network.

The straight-through gradient, plain and Fisher-weighted error, and what changing single layers does to the output.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.evidence.runs import Plan, Stage
from benchmarks.signal import backward_pass
from bitsearch.allocation.loss_model import LevelCount, LossModel
from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation.methods.binning import binning_loss
from bitsearch.allocation.methods.sensitivity import score
from bitsearch.allocation.signals.binning import BinningLoss
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import Choices
from bitsearch.data import batches
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.train.loop import train
from bitsearch.train.predict import predict
from bitsearch.train.session import TrainingSession

SAMPLES = 512
PROBES = 8


@dataclass
class Slopes:
    """The straight-through gradient: linear in the bits from where it was measured."""

    weight: Mapping[str, float]
    spike: Mapping[str, float]
    time: Mapping[str, float]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Slope · bits, up to a constant."""
        return self.weight[name] * weight_bits

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """Likewise, of the mean spike bits and of the time steps."""
        return self.spike[name] * float(np.mean(spike_bits)) + self.time[name] * len(spike_bits)


@dataclass
class Probed:
    """KL divergence of the logits when one layer alone gets other bits; measured when it is asked for."""

    network: QuantizedNetwork
    images: Tensor
    base: Tensor
    state: dict[str, Tensor]
    weight_part: float = 1.0
    """Of the weights' divergences, this much counts."""
    known: dict[tuple[str, int, tuple[int, ...]], float] = field(default_factory=dict)

    @classmethod
    def make(cls, network: QuantizedNetwork, images: Tensor, weight_part: float = 1.0) -> "Probed":
        """From the network as it is, with batch statistics."""
        state = {name: value.clone() for name, value in network.network.state_dict().items()}
        with torch.no_grad():
            return cls(network, images, predict(network.network, images).log_softmax(-1), state, weight_part)

    @torch.no_grad()
    def _divergence(self, name: str, weight_bits: int, spike_bits: tuple[int, ...]) -> float:
        key = (name, weight_bits, spike_bits)
        if key not in self.known:
            layer = self.network.layers[name]
            layer.round_latents(weight_bits, [float(bits) for bits in spike_bits], len(spike_bits))
            changed = predict(self.network.network, self.images).log_softmax(-1)
            self.network.network.load_state_dict(self.state)
            divergence = nn.functional.kl_div(changed, self.base, log_target=True, reduction="batchmean")
            self.known[key] = float(divergence)
        return self.known[key]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """With other weight bits."""
        return self.weight_part * self._divergence(name, weight_bits, self.network.layers[name].layer_plan.spike_bits)

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """With other spike bits."""
        return self._divergence(name, self.network.layers[name].layer_plan.weight_bits, spike_bits)


def training_images(stage: Stage) -> tuple[Tensor, Tensor]:
    """Images and labels that signals are measured on, on the network's device."""
    order = torch.Generator().manual_seed(stage.seed)
    images, labels = next(iter(batches(stage.task.splits.train, SAMPLES, order)))
    return images.to(stage.task.device), labels.to(stage.task.device)


def quantized_at(stage: Stage, bits: UniformBits, *, trained: bool) -> QuantizedNetwork:
    """The float network at uniform bits, as it is or after the epochs of a trial; latents are there, but still."""
    space = stage.space
    wide = space.model_copy(update={"choices": Choices()})
    own = Stage(wide, stage.seed, stage.kept) if bits not in _Within(space.choices) else stage
    settings = own.space.allocation_with({"start": bits.model_dump()})
    network = make_learnable_copy(stage.network, own.task.model, own.task.rules, own.space, settings)
    if trained:
        still = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
        session = TrainingSession(stage.task.splits, space.training)
        train(network, session, epochs=space.training.epochs, seed=stage.seed, phase="", latent_rates=still)
    network.train()
    with torch.no_grad():
        # The first batch in training mode settles every step size.
        network(training_images(stage)[0])
    return network


@dataclass(frozen=True)
class _Within:
    choices: Choices

    def __contains__(self, bits: UniformBits) -> bool:
        return self.choices.nearest(bits) == bits


def slopes(network: QuantizedNetwork, images: Tensor, labels: Tensor) -> Slopes:
    """Of the loss with respect to every layer's latents."""
    names = list(network.searched_layers)
    backward_pass(network, images, labels, names)
    layers = network.layers
    found = Slopes(
        {name: float(layers[name].weight_latent.grad) for name in names},  # type: ignore[union-attr]
        {name: float(layers[name].spike_latent.grad.sum()) for name in names},  # type: ignore[union-attr]
        {name: float(layers[name].time_latent.grad) for name in names},  # type: ignore[union-attr]
    )
    network.zero_grad(set_to_none=True)
    return found


def fisher(
    network: QuantizedNetwork, images: Tensor, seed: int, batch_axis: int, binning: BinningLoss | None = None
) -> FisherLossModel:
    """Of the network as it is."""
    curvature = FisherLossModel(network, seed, batch_axis=batch_axis, binning=binning)
    for part in images.tensor_split(PROBES, dim=batch_axis):
        curvature.probe(part)
    return curvature


def plain_error(network: QuantizedNetwork, images: Tensor, seed: int, batch_axis: int) -> FisherLossModel:
    """Mean squared quantization errors: every element counts alike."""
    curvature = fisher(network, images, seed, batch_axis)
    for name in network.searched_layers:
        curvature.use_hessian_traces(name, 2.0, 2.0)
    return curvature


def signals(stage: Stage, at: UniformBits) -> dict[str, tuple[LossModel, float]]:
    """By name: a loss model and the CPU seconds that it took to measure, the training of its network not counted."""
    images, labels = training_images(stage)
    axis, seed = stage.task.splits.batch_axis, stage.seed
    binning = binning_loss(stage.problem(stage.space.allocation))
    time_steps = stage.space.choices.time_steps.nearest(2)
    fine = UniformBits(weight_bits=8, spike_bits=8, time_steps=time_steps)
    places = {
        "float network": quantized_at(stage, fine, trained=False),
        f"trained at {at.weight_bits}/{at.spike_bits}": quantized_at(stage, at, trained=True),
    }
    makers: dict[str, Callable[[], LossModel]] = {"level count": LevelCount}
    # How much of the weights' part counts is tried afterwards.
    given = {
        "Fisher as `sensitivity` has it": {},
        "Hessian as `sensitivity` has it": {"sensitivity.metric": "hessian"},
        # Without a time axis the same as the first.
        "Fisher, binning of frames in full": {"time_tolerance": 1.0},
    }
    for name, settings in given.items():
        problem = stage.problem(stage.space.allocation_with({"weight_tolerance": 1.0} | settings))
        makers[name] = lambda problem=problem: score(problem)  # type: ignore[misc]
    for place, network in places.items():
        makers |= {
            f"straight-through gradient, {place}": lambda network=network: slopes(network, images, labels),
            f"plain error, {place}": lambda network=network: plain_error(network, images, seed, axis),
            f"Fisher, {place}": lambda network=network: fisher(network, images, seed, axis, binning),
            f"KL probe, {place}": lambda network=network: Probed.make(network, images),
        }
    found = {}
    for name, make in makers.items():
        started = time.process_time()
        model = make()
        found[name] = (model, time.process_time() - started)
    return found


def predicted(model: LossModel, plan: Plan, searched: tuple[str, ...], weight_part: float) -> float:
    """A plan's loss by a signal."""
    return sum(
        weight_part * model.weight_loss(name, plan[name].weight_bits) + model.spike_loss(name, plan[name].spike_bits)
        for name in searched
    )


@torch.no_grad()
def immediate_loss(stage: Stage, network: QuantizedNetwork, plan: Plan, images: Tensor, labels: Tensor) -> float:
    """Cross-entropy of the float network at the plan's bits, with batch statistics, before any training."""
    state = {name: value.clone() for name, value in network.network.state_dict().items()}
    for name in stage.task.rules.searched:
        bits = plan[name]
        network.layers[name].round_latents(bits.weight_bits, [float(b) for b in bits.spike_bits], bits.time_steps)
    loss = nn.functional.cross_entropy(predict(network.network, images), labels)
    network.network.load_state_dict(state)
    return float(loss)
