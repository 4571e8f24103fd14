"""Measuring what each layer's bits and time steps are worth: one number of one layer is changed at a time.

The network is at the finest bits that it may get, in evaluation mode: nothing is trained. A layer that changes gets the
step sizes that are best for its new bits on the first batch. Predictions are those of the Fisher's loss model
(:mod:`bitsearch.allocation.signals.fisher_loss`) at the same network, on the same samples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch import Tensor

from bitsearch.allocation.sensitivity.causes import QuantizationError, spike_error, weight_error
from bitsearch.allocation.sensitivity.records import WidthLoss, standard_error
from bitsearch.allocation.sensitivity.replay import RecordedPass
from bitsearch.allocation.signals.binning import bins_frames
from bitsearch.allocation.signals.changed_bits import changed_bits
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import NUMBERS, Shared
from bitsearch.cost import AllowedBits
from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.errors import InputError
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.network_inputs import Inputs, map_inputs, moved
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.quant.uniform import working_precision
from bitsearch.train.predict import over_steps, predict
from bitsearch.train.tasks import LearningTask

PASSES = 6
"""Forward passes that two training epochs have, a backward pass counted as two."""
STEP_SHARE = 1.15
"""What a time step adds to a quantized pass, in passes of the float network (benchmarks/sensitivity.py)."""
LEAST, MOST = 32, 1024
"""Samples that are measured where nobody says how many."""

_STEPS = ("weight_log_step", "spike_log_step", "weight_step_bits", "spike_step_bits")


@dataclass(frozen=True)
class Setting:
    """One number of one layer, and of those that have it in common, at one value."""

    layer: str
    number: Shared
    value: int


@dataclass
class _Measured:
    """Of one setting, over the batches."""

    losses: list[Tensor] = field(default_factory=list)
    divergence: float = 0.0
    states: Tensor | None = None
    """Sums of the score's states."""
    steps: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Step sizes of the layers that change, as the first batch set them."""
    error: QuantizationError | None = None


@dataclass(frozen=True)
class Measurement:
    """What a network at its finest loses by each setting."""

    loss: float
    score: float | None
    samples: int
    widths: tuple[WidthLoss, ...]


def finest_bits(rules: AllowedBits) -> UniformBits:
    """The most of everything that any layer may get; every layer gets what is nearest to it among its choices.

    Membranes get the widest that they may.
    """
    highest = {number: max(getattr(each, number).high for each in rules.choices.values()) for number in NUMBERS}
    return UniformBits.model_validate(highest)


def settings_of(network: QuantizedNetwork) -> list[Setting]:
    """Every value of every number of the searched layers but those that they have, layers that share one once."""
    settings = []
    for name, layer in network.searched_layers.items():
        assert layer.choices is not None
        plan, choices = layer.layer_plan, layer.choices
        membranes = choices.membranes_at(plan.time_steps) if choices.chooses_membranes else ()
        values: dict[Shared, tuple[Sequence[int], int | None]] = {
            "weight_bits": (choices.weight_bits.values, plan.weight_bits),
            "spike_bits": (choices.spike_bits.values, max(plan.spike_bits)),
            "time_steps": (choices.time_steps.values, plan.time_steps),
            "membrane_bits": (membranes, plan.membrane_bits),
        }
        for number, (allowed, finest) in values.items():
            if network.rules.sharing(name, number)[0] == name:
                settings += [Setting(name, number, value) for value in allowed if value != finest]
    return settings


def sample_count(training_samples: int, settings: int, time_steps: int) -> int:
    """Samples with which all settings take two training epochs' time, from :data:`LEAST` to :data:`MOST`.

    Args:
        training_samples: of an epoch.
        settings: that are measured; a pass begins, on the average, half-way through the network.
        time_steps: at the layers' finest.
    """
    passes = max(settings, 1) * (1 + STEP_SHARE * time_steps) / 2
    return min(MOST, max(LEAST, int(PASSES * training_samples / passes)))


def measure_sensitivities(
    network: QuantizedNetwork,
    samples: Samples,
    task: LearningTask,
    *,
    count: int,
    batch_size: int,
    batch_axis: int = 0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurement:
    """Measure every setting of :func:`settings_of` on the same samples.

    Args:
        network: trained, with learnable bits at the finest allowed; nothing else may use it.
        samples: some of them are drawn.
        task: whose loss and score are meant.
        count: of the samples drawn, if there are so many.
        batch_size: of the passes.
        batch_axis: the samples' axis in a batch's inputs.
        seed: of the samples drawn, and of the Fisher's slopes.
        on_progress: told how many of all forward passes are done.

    Raises:
        InputError: a loss is not finite, or nothing can be changed.
    """
    settings = settings_of(network)
    if not settings:
        raise InputError("no layer has a choice of bits or time steps, so there is nothing to measure; widen choices")
    # As an allocation begins: the network's own neurons send as many levels as their bits have.
    network.release_spikes()
    network.eval()
    device = next(network.parameters()).device
    curvature = FisherLossModel(network, seed, batch_axis=batch_axis, task=task)
    measured = {setting: _Measured() for setting in settings}
    reference = _Measured()
    drawn = list(_drawn(samples, count, batch_size, batch_axis, seed))
    total, done = len(drawn) * len(settings), 0
    for inputs, targets in drawn:
        inputs, targets = moved(inputs, device), targets.to(device)
        record = RecordedPass(network)
        with torch.no_grad(), _observed(network.searched_layers) as finest, record.recording():
            outputs = working_precision(predict(network, inputs, task.form))
        _add(reference, outputs, outputs, targets, task)
        for setting in settings:
            _measure(network, setting, measured[setting], record, finest[setting.layer], outputs, inputs, targets, task)
            done += 1
            on_progress(done, total)
        curvature.probe(inputs, targets=[targets])
    losses = torch.cat(reference.losses)
    rows = [_row(network, setting, measured[setting], losses, curvature, task) for setting in settings]
    return Measurement(float(losses.mean()), _score(reference, task), len(losses), tuple(rows))


def _drawn(
    samples: Samples, count: int, batch_size: int, batch_axis: int, seed: int
) -> Iterator[tuple[Inputs, Tensor]]:
    remaining = count
    for inputs, targets in batches(samples, min(batch_size, count), torch.Generator().manual_seed(seed)):
        here = min(remaining, len(targets))
        yield map_inputs(partial(_first, count=here, axis=batch_axis), inputs), targets[:here]
        remaining -= here
        if not remaining:
            return


def _first(x: Tensor, count: int, axis: int) -> Tensor:
    return x.narrow(axis, 0, count)


@contextmanager
def _observed(layers: dict[str, QuantizedLayer]) -> Iterator[dict[str, list[Tensor]]]:
    """The spikes of every call of these layers inside."""
    calls: dict[str, list[Tensor]] = {name: [] for name in layers}
    for name, layer in layers.items():
        layer.observer = lambda x, spikes, weight, to=calls[name]: to.append(spikes.detach())
    try:
        yield calls
    finally:
        for layer in layers.values():
            layer.observer = None


@torch.no_grad()
def _measure(
    network: QuantizedNetwork,
    setting: Setting,
    measured: _Measured,
    record: RecordedPass,
    finest: list[Tensor],
    before: Tensor,
    inputs: Inputs,
    targets: Tensor,
    task: LearningTask,
) -> None:
    """Add one batch."""
    plans = _plans(network, setting)
    layers = {name: network.layers[name] for name in plans}
    layer = layers[setting.layer]
    with changed_bits(network, plans):
        if measured.steps:
            for name, steps in measured.steps.items():
                for key, value in steps.items():
                    getattr(layers[name], key).copy_(value)
                layers[name].refresh_cache()
        elif setting.number in ("spike_bits", "time_steps"):
            for each in layers.values():
                # Other bins, or other bits, are other numbers to quantize.
                each.spike_step_bits.zero_()
                each.refresh_cache()
        with _observed({setting.layer: layer}) as calls, record.replaying(list(layers.values())):
            outputs = working_precision(predict(network, inputs, task.form))
        if measured.error is None:
            measured.steps = {
                name: {key: getattr(each, key).clone() for key in _STEPS} for name, each in layers.items()
            }
            weights = setting.number == "weight_bits"
            measured.error = weight_error(layer) if weights else spike_error(layer, finest, calls[setting.layer])
    _add(measured, before, outputs, targets, task)


def _plans(network: QuantizedNetwork, setting: Setting) -> dict[str, LayerPlan]:
    """Of the layers that a setting changes."""
    plans = {}
    for name in network.rules.sharing(setting.layer, setting.number):
        plan, value = network.layers[name].layer_plan, setting.value
        if setting.number == "weight_bits":
            plans[name] = plan.with_bits(value, plan.spike_bits)
        elif setting.number == "spike_bits":
            plans[name] = plan.with_bits(plan.weight_bits, (value,) * plan.time_steps)
        elif setting.number == "membrane_bits":
            plans[name] = plan.with_membrane(value)
        else:
            membrane = network.rules.choices[name].membrane_at(value, plan.membrane_bits)
            plans[name] = plan.with_bits(plan.weight_bits, (max(plan.spike_bits),) * value).with_membrane(membrane)
    return plans


@torch.no_grad()
def _add(measured: _Measured, before: Tensor, outputs: Tensor, targets: Tensor, task: LearningTask) -> None:
    measured.losses.append(task.loss.each(outputs, targets).double().cpu())
    measured.divergence += float(task.loss.divergence(before.double(), outputs.double()))
    if task.scoring.additive:
        states = task.scoring.states(over_steps(outputs, task.form).cpu(), targets.cpu())
        measured.states = states if measured.states is None else measured.states + states


def _score(measured: _Measured, task: LearningTask) -> float | None:
    return None if measured.states is None else task.scoring.value(measured.states)


def _row(
    network: QuantizedNetwork,
    setting: Setting,
    measured: _Measured,
    reference: Tensor,
    curvature: FisherLossModel,
    task: LearningTask,
) -> WidthLoss:
    differences = (torch.cat(measured.losses) - reference).tolist()
    increase = math.fsum(differences) / len(differences)
    if not math.isfinite(increase):
        raise InputError(
            f"the loss is {float(torch.cat(measured.losses).mean())} with {setting.value} {setting.number} in layer "
            f"{setting.layer!r}; check the weights, which may not be trained"
        )
    assert measured.error is not None
    plans = _plans(network, setting)
    return WidthLoss(
        layer=setting.layer,
        tied=tuple(name for name in plans if name != setting.layer),
        number=setting.number,
        value=setting.value,
        increase=increase,
        standard_error=standard_error(differences),
        divergence=measured.divergence / len(differences),
        predicted=_predicted(network, setting, plans, curvature),
        score=_score(measured, task),
        cause=measured.error.cause,
        **asdict(measured.error),
    )


def _predicted(
    network: QuantizedNetwork, setting: Setting, plans: dict[str, LayerPlan], curvature: FisherLossModel
) -> float | None:
    """The loss model's increase: the layers' losses at the setting, minus those at their finest."""
    if setting.number == "time_steps" and any(bins_frames(network.layers[name]) for name in plans):
        return None
    total = 0.0
    for name, plan in plans.items():
        finest = network.layers[name].layer_plan
        if setting.number == "weight_bits":
            total += curvature.weight_loss(name, plan.weight_bits) - curvature.weight_loss(name, finest.weight_bits)
        else:
            there, here = (
                curvature.neuron_loss(name, at.spike_bits, network.rules.membrane_of(name, at)) for at in (plan, finest)
            )
            total += there - here
    return total
