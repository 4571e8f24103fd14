r"""Local binary allocation (Pei et al. 2023, ALBSNN; our reading): which layers can do with one weight bit.

A layer's weights have one bit or the most that it may have; spike bits and time steps are those of
``allocation.start``, T = 1 among them, or where that leaves not even one weight bit, those of the best uniform plan
within the budgets. Every layer carries an estimate of what binarizing it would cost,

.. math::
    \Delta L_l \approx |\langle g_l, B_l - W_l \rangle| + \tfrac12 \sum F_l \cdot (B_l - W_l)^2, \qquad
    B_l = \mathrm{mean}|W_l| \cdot \mathrm{sign}(W_l)

with the gradient g and the squared gradients F smoothed over training steps. After each epoch the layers with the
least ΔL a bit saved are binarized, as many as a budget that tightens from epoch to epoch demands; one whose estimate
has risen since is released first. Layers that share a weight width are one candidate. Then the bits are frozen, and
once the loss has stopped falling, binary weights are flipped by what their gradients say (:class:`BinaryFlips`). The
classifier that the paper asks for, a convolution and global average pooling, is the network's matter:
``classifier = "gap"`` of ``digits_cnn``.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocation.budget_control import tightened_limit
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.finish import project_and_fine_tune
from bitsearch.allocation.methods.uniform import best_uniform
from bitsearch.allocation.signals.moving_average import moving_average
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Span
from bitsearch.cost import AllowedBits, SpikeStatistics
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan
from bitsearch.train.fine_tune import soft_layers
from bitsearch.train.loop import Callback, train
from bitsearch.train.state import to_device

SMOOTHING = 0.9
"""Weight of the past in the running gradients."""
RELEASE_RATIO = 1.5
"""A binary layer is released once its estimate is this many times what it was when it was binarized."""
PLATEAU = 0.02
"""The loss has stopped falling once an epoch's is not below the least before it by this share."""
FLIP_MOMENTUM = 0.1
"""Weight of the latest gradient in the momentum that flips binary weights."""
FLIP_THRESHOLD = 0.8
"""A weight flips once its momentum is this share of its gradients' root mean square: they agree on a direction."""


class Binarization(Callback):
    """Estimates every layer's loss by binarization, and binarizes and releases layers after each epoch."""

    def __init__(self, network: QuantizedNetwork, problem: AllocationProblem, epochs: int) -> None:
        self.network, self.problem, self.epochs = network, problem, epochs
        rules = problem.rules
        self.candidates = [name for name in binary_layers(rules) if rules.sharing(name, "weight_bits")[0] == name]
        """The first of the layers that share a weight width, or a layer alone."""
        self.weights = {name: distinct_weights(network, rules.sharing(name, "weight_bits")) for name in self.candidates}
        """Of every candidate, the layers whose weights it stands for."""
        self.slopes: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.binarized_at: dict[str, float] = {}
        """The estimate of every binary layer at the time it became one."""
        model, activity = problem.model, network.activity
        self.starts = [model.cost(budget.metric, network.layer_plans, activity) for budget in problem.budgets]

    def state_dict(self) -> dict[str, Any]:
        """The running gradients, and what is binary since when; the bits are the network's."""
        return {"slopes": self.slopes, "squares": self.squares, "binarized_at": self.binarized_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        device = next(self.network.parameters()).device
        self.slopes, self.squares = to_device(state["slopes"], device), to_device(state["squares"], device)
        self.binarized_at = dict(state["binarized_at"])

    def after_step(self) -> None:
        """Gather the gradients of the step."""
        for name in itertools.chain.from_iterable(self.weights.values()):
            layer = self.network.layers[name]
            gradient = _gradient(layer)
            if gradient is None:
                # No output depends on the layer.
                gradient = torch.zeros_like(layer.weight)
            self.slopes[name] = moving_average(self.slopes.get(name), gradient, SMOOTHING)
            self.squares[name] = moving_average(self.squares.get(name), gradient.square(), SMOOTHING)

    def loss(self, name: str) -> float:
        """ΔL of a candidate, over its weights; infinite before the first gradient."""
        return sum(self._weight_loss(layer) for layer in self.weights[name])

    @torch.no_grad()
    def _weight_loss(self, name: str) -> float:
        if name not in self.slopes:
            return math.inf
        weight = self.network.layers[name].weight
        error = weight.abs().mean() * torch.where(weight < 0, -1.0, 1.0) - weight
        first = (self.slopes[name] * error).sum().abs()
        return float(first + 0.5 * (self.squares[name] * error.square()).sum())

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """Release what has risen, then binarize until this epoch's budget is met."""
        losses = {name: self.loss(name) for name in self.candidates}
        released = self._release(losses)
        # What was released this epoch comes last: only the budget can take it again.
        order = sorted(losses, key=lambda name: (name == released, losses[name] / self._saved(name)))
        for name in order:
            if self._within(epoch):
                break
            if name not in self.binarized_at:
                self._set(name, losses[name])
        return {"binary_layers": float(len(self.binarized_at)), "released": float(released is not None)}

    def _release(self, losses: dict[str, float]) -> str | None:
        """Give the layer whose estimate has risen most its bits back, where another one would cost less a bit saved."""
        risen = {name: losses[name] / max(before, 1e-30) for name, before in self.binarized_at.items()}
        name = max(risen, key=lambda name: risen[name], default=None)
        if name is None or risen[name] < RELEASE_RATIO:
            return None
        dearer = losses[name] / self._saved(name)
        remaining = [other for other in losses if other not in self.binarized_at]
        if not any(losses[other] / self._saved(other) < dearer for other in remaining):
            return None
        del self.binarized_at[name]
        self._bits(name, self.problem.rules.choices[name].weight_bits.high)
        return name

    def _set(self, name: str, loss: float) -> None:
        self.binarized_at[name] = loss
        self._bits(name, 1)

    def _bits(self, name: str, bits: int) -> None:
        for layer in (self.network.layers[other] for other in self.problem.rules.sharing(name, "weight_bits")):
            layer.set_bits(layer.layer_plan.with_bits(bits, layer.layer_plan.spike_bits))

    def _saved(self, name: str) -> int:
        count = sum(self.network.layers[layer].weight.numel() for layer in self.weights[name])
        return count * (self.problem.rules.choices[name].weight_bits.high - 1)

    def _within(self, epoch: int) -> bool:
        """Whether the costs are at most this epoch's limits, which fall in equal ratios to the budgets'."""
        model, plans = self.problem.model, self.network.layer_plans
        progress = min(1.0, epoch / self.epochs)
        limits = [
            tightened_limit(start, budget.limit, progress)
            for budget, start in zip(self.problem.budgets, self.starts, strict=True)
        ]
        return all(
            replace(budget, limit=limit).met_by(model, plans, self.network.activity)
            for budget, limit in zip(self.problem.budgets, limits, strict=True)
        )


class BinaryFlips(Callback):
    """Binary weight optimization: once the loss has stopped falling, gradients flip weights without a shadow.

    A weight flips when the momentum of its gradient pushes against its sign beyond a threshold (Helwegen et al. 2019,
    Bop). Until then binary weights are trained through their real-valued shadow.
    """

    def __init__(self, network: QuantizedNetwork, settings: Allocation) -> None:
        # Sharp sigmoids pass binary weights no gradient to flip by.
        soft = soft_layers(network, settings)
        binary = [
            name for name, layer in network.layers.items() if layer.layer_plan.weight_bits == 1 and name not in soft
        ]
        self.layers = {name: network.layers[name] for name in distinct_weights(network, binary)}
        self.signs: dict[str, Tensor] = {}
        self.momenta: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.flips = 0
        self.least_loss = math.inf
        self.started = False

    def state_dict(self) -> dict[str, Any]:
        """Signs, momenta, and whether the loss has stopped falling."""
        return {name: value for name, value in vars(self).items() if name != "layers"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for layer in self.layers.values():
            state = to_device(state, layer.weight.device)
        vars(self).update(state)

    @torch.no_grad()
    def after_step(self) -> None:
        """Flip by the step's gradients, and undo what the optimizer did to the shadow."""
        if not self.started:
            return
        for name, layer in self.layers.items():
            gradient = _gradient(layer)
            if name not in self.signs:
                self.signs[name] = torch.where(layer.weight < 0, -1.0, 1.0)
                self.momenta[name] = torch.zeros_like(layer.weight)
            elif gradient is not None:
                signs, momentum = self.signs[name], self.momenta[name]
                momentum.lerp_(gradient, FLIP_MOMENTUM)
                square = self.squares.setdefault(name, gradient.square()).lerp_(gradient.square(), FLIP_MOMENTUM)
                flipped = (momentum * signs > FLIP_THRESHOLD * square.sqrt()) & (square > 0)
                signs[flipped] *= -1
                momentum[flipped] = 0
                self.flips += int(flipped.sum())
            self._write(layer, self.signs[name])

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """The flips so far; they start once an epoch's loss is no longer clearly below the least before it."""
        self.started = self.started or loss > (1 - PLATEAU) * self.least_loss
        self.least_loss = min(self.least_loss, loss)
        return {"flips": float(self.flips)}

    def _write(self, layer: QuantizedLayer, signs: Tensor) -> None:
        # Half a step: well inside the clipping range, where gradients pass.
        layer.weight.copy_(0.5 * layer.weight_step * signs)


def distinct_weights(network: QuantizedNetwork, names: Iterable[str]) -> list[str]:
    """Of layers that have one weight, the first; and all others."""
    firsts: dict[Tensor, str] = {}
    for name in names:
        firsts.setdefault(network.layers[name].weight, name)
    return list(firsts.values())


def binary_layers(rules: AllowedBits) -> list[str]:
    """The layers that may have one weight bit, or more."""
    spans: dict[str, Span] = {name: rules.choices[name].weight_bits for name in rules.searched}
    return [name for name, span in spans.items() if 1 in span and span.high > 1]


def allocate_local_binary(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """Binarize layer by layer while training, freeze, fine-tune.

    Raises:
        InputError: one weight bit on every layer does not meet the budgets, and neither does a uniform plan.
    """
    activity = ActivityEstimate(problem).from_start()
    start = _start(problem, activity)
    session, settings = problem.session, problem.settings
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    for name, layer in quantized.searched_layers.items():
        layer.straight_through = False
        layer.set_bits(start[name])
    quantized.activity = activity
    search_epochs = max(1, round(session.settings.epochs * settings.search_share))
    train(
        quantized,
        session,
        epochs=search_epochs,
        seed=problem.seed,
        phase="binarize",
        anneal=False,
        callbacks=[Binarization(quantized, problem, search_epochs)],
        latent_rates={"bits_learning_rate": 0.0, "time_learning_rate": 0.0},
    )
    project_and_fine_tune(
        quantized,
        problem,
        epochs=session.settings.epochs - search_epochs,
        seed=problem.seed + 1,
        use_slack=False,
        callbacks=lambda: [BinaryFlips(quantized, settings)],
    )
    yield quantized


def _start(problem: AllocationProblem, activity: SpikeStatistics | None) -> dict[str, LayerPlan]:
    """The most weight bits that each layer may have, with spike bits and time steps that leave it one."""
    plan = problem.plan(problem.settings.start)
    least = plan | {name: plan[name].with_bits(1, plan[name].spike_bits) for name in binary_layers(problem.rules)}
    certain = [budget for budget in problem.budgets if budget not in problem.activity_budgets]
    if not all(budget.met_by(problem.model, least, activity) for budget in certain):
        plan = problem.plan(best_uniform(problem, activity))
    for name in problem.rules.searched:
        most = problem.rules.choices[name].weight_bits.high
        plan[name] = plan[name].with_bits(most, plan[name].spike_bits)
    return plan


def _gradient(layer: QuantizedLayer) -> Tensor | None:
    """Of the weights in the last step; nothing from a step that gradient scaling skipped for its overflow."""
    gradient = layer.weight.grad
    return None if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
