"""One training loop for every network: full precision, uniform, adaptive, fine-tuning."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.allocate.checkpoint import Checkpoint, GeneratorState, RandomState, Stateful
from bitsearch.allocate.evaluation import evaluate
from bitsearch.allocate.prediction import predict
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.data import Splits, batches
from bitsearch.errors import InputError
from bitsearch.space import Training


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch ended with."""

    phase: str
    epoch: int
    epochs: int
    loss: float
    """Mean training loss, penalties not included."""
    validation_accuracy: float
    measures: dict[str, float] = field(default_factory=dict)
    """What the callbacks measured: cost, mean bits, renewals."""


OnEpoch = Callable[[EpochRecord], None]


class Callback:
    """A small part of a method, called by the loop; override what is needed, the state of what changes included."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""

    def before_batch(self, inputs: Tensor) -> None:
        """Before the batch ``inputs`` (``[N, ...]``, or ``[T, N, ...]``) is trained on."""

    def penalty(self) -> Tensor | None:
        """A scalar to add to the task's loss, or None."""
        return None

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Measures for the epoch's record."""
        return {}


def train(
    network: nn.Module,
    splits: Splits,
    training: Training,
    *,
    epochs: int,
    seed: int,
    phase: str,
    anneal: bool = True,
    callbacks: Sequence[Callback] = (),
    latent_rates: dict[str, float] | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    number: int = 0,
) -> None:
    """Train ``network`` in place with Adam.

    Args:
        network: on its device; a :class:`QuantizedNetwork` brings its own parameter groups.
        splits: trained on ``train``; ``validation`` is measured after every epoch if ``on_epoch`` is given.
        training: batch size, learning rate, weight decay.
        epochs: number of passes.
        seed: of the batches' order.
        phase: name for the records.
        anneal: cosine learning rate to zero; False keeps it.
        callbacks: parts of a method.
        latent_rates: ``bits_learning_rate`` and ``time_learning_rate``.
        on_epoch: gets a record after every epoch.
        checkpoint: written after every epoch; where it holds this phase, training goes on from there.
        number: of this phase within the checkpoint.

    Raises:
        InputError: the loss is not a finite number any more.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(_parameter_groups(network, training, latent_rates or {}), fused=True)
    if isinstance(network, QuantizedNetwork):
        network.watch(optimizer)
    steps = epochs * math.ceil(len(splits.train) / training.batch_size)  # type: ignore[arg-type]

    def rate(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / steps)) if anneal else 1.0

    def latent_rate(step: int) -> float:
        # Latents settle: full speed while the budget tightens, a tenth of it at the end.
        return min(1.0, 1.9 - 1.8 * step / steps)

    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [latent_rate if group.get("latents") else rate for group in optimizer.param_groups]
    )
    checkpoint = checkpoint or Checkpoint()
    parts: dict[str, Stateful] = {
        "network": network,
        "optimizer": optimizer,
        "schedule": schedule,
        "order": GeneratorState(generator),
        "random": RandomState(seed),
        **{f"callback {index}": callback for index, callback in enumerate(callbacks)},
    }
    for epoch in range(1 + checkpoint.enter(number, parts), epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        count = 0
        for inputs, labels in batches(splits.train, training.batch_size, generator):
            inputs, labels = inputs.to(device), labels.to(device)
            for callback in callbacks:
                callback.before_batch(inputs)
            task_loss = nn.functional.cross_entropy(predict(network, inputs), labels)
            loss = task_loss
            for callback in callbacks:
                penalty = callback.penalty()
                loss = loss if penalty is None else loss + penalty
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += task_loss.detach() * len(labels)
            count += len(labels)
        loss_of_epoch = float(total) / count
        if not math.isfinite(loss_of_epoch):
            raise InputError(
                f"the training loss is {loss_of_epoch} in epoch {epoch} of {epochs} ({phase}); "
                "lower training.learning_rate, or check the data"
            )
        if isinstance(network, QuantizedNetwork):
            network.follow_latents()
        measures: dict[str, float] = {}
        for callback in callbacks:
            measures |= callback.after_epoch(epoch)
        if on_epoch is not None:
            accuracy = evaluate(network, splits.validation, training.batch_size)
            on_epoch(EpochRecord(phase, epoch, epochs, loss_of_epoch, accuracy, measures))
        checkpoint.save(epoch, parts)


def _parameter_groups(network: nn.Module, training: Training, latent_rates: dict[str, float]) -> list[dict[str, Any]]:
    if isinstance(network, QuantizedNetwork):
        return network.parameter_groups(training.learning_rate, weight_decay=training.weight_decay, **latent_rates)
    parameters = list(network.parameters())
    return [
        {
            "params": [p for p in parameters if p.dim() > 1],
            "lr": training.learning_rate,
            "weight_decay": training.weight_decay,
        },
        {"params": [p for p in parameters if p.dim() <= 1], "lr": training.learning_rate, "weight_decay": 0.0},
    ]
