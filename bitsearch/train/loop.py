"""One training loop for every network: full precision, uniform, adaptive, fine-tuning."""

import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn

from bitsearch.data import batches
from bitsearch.data.splits import batch_count
from bitsearch.distributed import all_reduce_sum
from bitsearch.errors import DivergedError
from bitsearch.layers.batch_norm import shared_batch_norm
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.neurons.silent import warn_of_silent
from bitsearch.network_inputs import Inputs, moved
from bitsearch.quant.membrane_gradient import gradients_through_time
from bitsearch.quant.uniform import working_precision
from bitsearch.train.early_stopping import EarlyStopping
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.evaluate import evaluate
from bitsearch.train.fabric import reset_loss_scale
from bitsearch.train.micro_batch import MicroBatches, Part
from bitsearch.train.mixup import Mixup
from bitsearch.train.optimizer import clip_gradients, make_optimizer
from bitsearch.train.precision import neurons_in_float32
from bitsearch.train.predict import check_rows, predict
from bitsearch.train.schedule import make_schedule
from bitsearch.train.session import TrainingSession
from bitsearch.train.state import GeneratorState, NetworkState, Stateful, seed_epoch
from bitsearch.train.tasks import LearningTask
from bitsearch.train.weight_average import WeightAverage


class Callback:
    """A small part of a method, called by the loop.

    Override the hooks you need; a callback with state also overrides ``state_dict`` and ``load_state_dict``.

    A batch for which memory did not suffice is begun again in smaller parts, with these calls.
    """

    def state_dict(self) -> dict[str, Any]:
        """What is kept after an epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""

    def before_batch(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
        """Before a batch is trained on: its inputs, in several parts if all are too many at once.

        They are ``[N, ...]``, or ``[T, N, ...]`` with a time axis, each a tensor or several; ``targets`` are those of
        every part.
        """

    def after_forward(self, outputs: Tensor) -> None:
        """Between the batch's forward pass, which gave ``outputs`` (``[N, ...]``), and its backward pass."""

    def part_loss(self, loss: Tensor, inputs: Inputs, outputs: Tensor, labels: Tensor) -> Tensor:
        """What is minimized on a part of a batch, summed over its samples, where it is not the task's ``loss``."""
        return loss

    def penalty(self) -> Tensor | None:
        """A scalar to add to the task's loss, or None."""
        return None

    def after_step(self) -> None:
        """After the optimizer's step; the batch's gradients, the same in all processes, are still there."""

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """Measures for the epoch's record; ``loss`` is its mean training loss."""
        return {}


def train(
    network: nn.Module,
    session: TrainingSession,
    *,
    epochs: int,
    seed: int,
    phase: str,
    anneal: bool = True,
    callbacks: Sequence[Callback] = (),
    latent_rates: dict[str, float] | None = None,
    patience: int | None = None,
) -> None:
    """Train ``network`` in place by the recipe of the session's settings.

    Of several processes each passes its share of every batch through the network; all end with the same weights.

    Args:
        network: on its device; a :class:`QuantizedNetwork` brings its own parameter groups.
        session: data, settings, processes, and what is done after every epoch.
        epochs: number of passes.
        seed: of the batches' order.
        phase: name for the records.
        anneal: the learning rate follows the schedule, and weights are averaged; False is for bits that move.
        callbacks: parts of a method.
        latent_rates: ``bits_learning_rate`` and ``time_learning_rate``.
        patience: stops after so many epochs in which validation did not improve, with the best epoch's weights.

    Raises:
        InputError: memory does not suffice, however small the parts of a batch.
        DivergedError: the loss is not a finite number any more.
    """
    splits, training, checkpoints = session.splits, session.settings, session.checkpoints
    device = next(network.parameters()).device
    fabric = session.fabric_on(device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = make_optimizer(network, training, latent_rates)
    if isinstance(network, QuantizedNetwork):
        network.watch(optimizer)
    samples = len(splits.train)
    steps_an_epoch = batch_count(splits.train, training.batch_size)
    schedule = make_schedule(
        optimizer, training, steps=epochs * steps_an_epoch, steps_an_epoch=steps_an_epoch, anneal=anneal
    )
    average = WeightAverage(network, training.ema if anneal else None)
    stopping = None if patience is None else EarlyStopping(network, patience)
    mixup = Mixup(training.mixup, splits.batch_axis)
    micro = MicroBatches(training.micro_batch, splits.batch_axis, fabric.world_size)
    lasting: dict[str, Stateful] = {
        "network": NetworkState(network),
        **{f"callback {index}": callback for index, callback in enumerate(callbacks)},
    }
    passing: dict[str, Stateful] = {
        "optimizer": optimizer,
        "schedule": schedule,
        "order": GeneratorState(generator),
        "parts of a batch": micro,
        "loss scale": reset_loss_scale(fabric),
        "average": average,
        **({} if stopping is None else {"early stopping": stopping}),
    }
    about = {"phase": phase, "epochs": epochs, "seed": seed, "bits": _bits(network)}
    done = checkpoints.restore(about, lasting | passing) if checkpoints is not None else 0
    bits_before = _bits(network) if done else []
    share = (fabric.global_rank, fabric.world_size)
    through_time = training.membrane_gradient == "through_time"
    with (
        shared_batch_norm(network),
        gradients_through_time() if through_time else nullcontext(),
        neurons_in_float32(network),
    ):
        batch_loss, stepper = fabric.setup(_BatchLoss(network, session.task, callbacks, mixup), optimizer)
        for epoch in range(done + 1, epochs + 1):
            seed_epoch(seed, epoch, fabric.global_rank)
            network.train()
            summed = torch.zeros((), device=device)
            remaining = samples
            for inputs, labels in batches(splits.train, training.batch_size, generator, share=share):
                batch = len(labels) if share == (0, 1) else min(remaining, training.batch_size)
                remaining -= batch
                inputs, labels = mixup.mix(moved(inputs, device), labels.to(device))
                loss = None
                while loss is None:
                    parts = micro.parts(inputs, labels, batch)
                    stepper.zero_grad(set_to_none=True)
                    loss = _gradients(fabric, batch_loss, parts, batch / fabric.world_size)
                    if loss is None:
                        micro.halve(parts)
                        if device.type == "cuda":
                            torch.cuda.empty_cache()
                if isinstance(network, QuantizedNetwork):
                    network.merge_gradients(len(parts) * fabric.world_size)
                if training.gradient_clipping is not None:
                    clip_gradients(fabric, optimizer, training.gradient_clipping)
                stepper.step()
                average.step()
                with warnings.catch_warnings():
                    # Gradient scaling skips the steps before it has found its scale; the schedule goes on.
                    warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)
                    schedule.step()
                for callback in callbacks:
                    callback.after_step()
                summed += loss * batch
            mean = float(all_reduce_sum(summed)) / fabric.world_size / samples
            if not 0 <= mean < math.inf:
                advice = "lower training.learning_rate, or check the data"
                raise DivergedError(
                    f"the training loss is {mean} in epoch {epoch} of {epochs} ({phase}); "
                    + ("a loss is never below zero (task.loss)" if mean < 0 else advice)
                )
            if isinstance(network, QuantizedNetwork):
                network.round_latents()
                if epoch == 1:
                    warn_of_silent(network.network)
            measures: dict[str, float] = {}
            with average.applied():
                for callback in callbacks:
                    measures |= callback.after_epoch(epoch, mean)
                if session.on_epoch is not None or stopping is not None:
                    at_once = micro.size or training.batch_size
                    score = evaluate(network, splits.validation, at_once, shared=True, task=session.task)
                stopped = stopping is not None and stopping.after_epoch(session.task.score.rank(score))
            if session.on_epoch is not None:
                bits = _bits(network)
                new, bits_before = [] if bits == bits_before else bits, bits
                session.on_epoch(EpochRecord(phase, epoch, epochs, mean, score, measures, micro.size, new))
            if epoch == epochs or stopped:
                average.apply()
                if stopping is not None:
                    stopping.restore()
                if checkpoints is not None:
                    checkpoints.keep(lasting, epochs)
                break
            if checkpoints is not None:
                checkpoints.keep(lasting | passing, epoch)


class _BatchLoss(nn.Module):
    """The loss of a part of a batch: as a module, so that all of its gradients are averaged over the processes."""

    def __init__(self, network: nn.Module, task: LearningTask, callbacks: Sequence[Callback], mixup: Mixup) -> None:
        super().__init__()
        self.network, self.task, self.callbacks, self.mixup = network, task, callbacks, mixup

    def forward(self, inputs: Inputs, labels: Tensor, share: float, last: bool) -> tuple[Tensor, Tensor]:
        """(loss to minimize, task's loss without gradients), each summed over the part and divided by ``share``."""
        outputs = predict(self.network, inputs, self.task.form)
        check_rows(outputs, labels, self.task.form)
        # Half precision is for the network.
        with torch.autocast(labels.device.type, enabled=False):
            for callback in self.callbacks:
                callback.after_forward(outputs)
            task_loss = self.mixup.loss(self.task.loss.summed, working_precision(outputs), labels)
            loss = task_loss
            for callback in self.callbacks:
                loss = callback.part_loss(loss, inputs, outputs, labels)
            loss, task_loss = loss / share, task_loss / share
            for callback in self.callbacks if last else ():
                penalty = callback.penalty()
                loss = loss if penalty is None else loss + penalty
        return loss, task_loss.detach()


def _gradients(fabric: Fabric, batch_loss: _FabricModule, parts: Sequence[Part], share: float) -> Tensor | None:
    """Add a batch's gradients to the parameters' and return its mean loss, or None if memory did not suffice.

    ``share`` is the whole batch's size over the number of processes: these average their losses and gradients.
    """
    total_loss: Tensor | None = None
    try:
        targets = [batch_loss.mixup.first(labels) for _, labels in parts]
        for callback in batch_loss.callbacks:
            callback.before_batch(*(inputs for inputs, _ in parts), targets=targets)
        for number, (inputs, labels) in enumerate(parts, start=1):
            last = number == len(parts)
            with fabric.no_backward_sync(batch_loss, enabled=not last):
                loss, task_loss = batch_loss(inputs, labels, share, last)
                fabric.backward(loss)
            total_loss = task_loss if total_loss is None else total_loss + task_loss
    except torch.OutOfMemoryError:
        # Outside of the handler, which still holds every tensor of the step, the caller can free memory.
        return None
    return total_loss


def _bits(network: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    plans = network.layer_plans.values() if isinstance(network, QuantizedNetwork) else ()
    return [(plan.weight_bits, plan.spike_bits) for plan in plans]
