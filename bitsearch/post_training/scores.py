"""What every layer's bits are predicted to cost in accuracy: measured once, kept in the run folder, solved any often.

With the layers' geometry beside it, the file is all that another budget, metric or target needs: no data, no network.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from pydantic import Field, ValidationError

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.sensitivity import score
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.calibrate import CalibrationSamples
from bitsearch.cost import CostModel, SpikeStatistics, Target
from bitsearch.cost.geometry import LayerGeometry, NetworkGeometry
from bitsearch.errors import InputError
from bitsearch.files import read_text, write_whole
from bitsearch.layer_rules import TieRule
from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.train.evaluate import measure_activity
from bitsearch.validation import Frozen, explain

ANY_BITS = UniformBits(weight_bits=1, spike_bits=1, time_steps=1)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class LayerScores(Frozen):
    """Of one layer, in nats a sample (or what the task's loss is in)."""

    weights: dict[int, float]
    """By weight bits."""
    spikes: dict[int, dict[int, float]]
    """By time steps and by spike bits, which are alike in all of them, with membranes of floats."""
    membranes: dict[int, dict[int, dict[int, float]]] = {}
    """The same by width of the membranes; empty where that is not chosen."""
    binning: dict[int, float]
    """By time steps: what fewer of them than frames cost; empty without a time axis."""


class Scores(Frozen):
    """Of a network at its trained weights; ``scores.json``."""

    schema_version: int = Field(default=1, ge=1, le=1)
    geometry: tuple[LayerGeometry, ...]
    staying: dict[str, str]
    """As :attr:`bitsearch.cost.geometry.NetworkGeometry.staying`."""
    poolings: dict[str, str] | None = None
    """Likewise; None in scores kept by earlier versions."""
    firing_rate: dict[str, float]
    """Counted on the calibration samples at the space's ``allocation.start``; as for :class:`SpikeStatistics`."""
    synaptic_rate: dict[str, float]
    layers: dict[str, LayerScores]
    """The searched ones."""

    @property
    def activity(self) -> SpikeStatistics:
        """Spike counts for budgets that depend on how often neurons fire."""
        return SpikeStatistics(self.firing_rate, self.synaptic_rate)

    def model(
        self,
        target: Target,
        *,
        first_layer_counted: bool,
        ties: Iterable[TieRule] = (),
        declared: Collection[str] = (),
    ) -> CostModel:
        """The costs of the network's layers on any hardware target; ``declared`` metrics of the user's own as well."""
        layers = NetworkGeometry(self.geometry, self.staying, self.poolings)
        return CostModel(layers, first_layer_counted=first_layer_counted, target=target, ties=ties, declared=declared)


class ScoredLoss:
    """Kept scores as a :class:`bitsearch.allocation.loss_model.LossModel`.

    Args:
        scores: of a network.
        weight_tolerance: share of the weights' loss that counts; 1 where nothing is trained afterwards.
        time_tolerance: likewise of that of binning frames.
    """

    def __init__(self, scores: Scores, *, weight_tolerance: float = 1.0, time_tolerance: float = 1.0) -> None:
        self.layers, self.weight_tolerance, self.time_tolerance = scores.layers, weight_tolerance, time_tolerance

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """As it was scored, times the weight tolerance."""
        return self.weight_tolerance * _kept(self._layer(name).weights, weight_bits, f"{name}: w{weight_bits}")

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """As it was scored, binning times the time tolerance; of bits that differ between steps, the steps' mean."""
        layer, time_steps = self._layer(name), len(spike_bits)
        width = "" if membrane is None else f" m{membrane}"
        by_steps = layer.spikes if membrane is None else _kept(layer.membranes, membrane, f"{name}:{width}")
        by_bits = _kept(by_steps, time_steps, f"{name}: T{time_steps}{width}")
        losses = [_kept(by_bits, bits, f"{name}: s{bits} T{time_steps}{width}") for bits in spike_bits]
        return sum(losses) / time_steps + self.time_tolerance * layer.binning.get(time_steps, 0.0)

    def _layer(self, name: str) -> LayerScores:
        return _kept(self.layers, name, f"layer {name!r}")


def measure_scores(problem: AllocationProblem, samples: CalibrationSamples) -> Scores:
    """Score every searched layer's bits at the float network, on the problem's training split alone.

    Args:
        problem: whose splits are those of :func:`bitsearch.calibrate.calibration_splits`, and whose tolerances are 1.
        samples: the same, on the network's device.
    """
    model, rules, space = problem.model, problem.rules, problem.space
    loss = score(problem)
    layers = {}
    for name in rules.searched:
        choices = rules.choices[name]
        is_static = loss.network.layers[name].frames is None
        time_steps = _either(choices.time_steps.values, space.choices.time_steps.values if is_static else ())
        spike_bits = _either(choices.spike_bits.values, space.choices.spike_bits.values)
        layers[name] = LayerScores(
            weights={
                bits: loss.weight_loss(name, bits)
                for bits in _either(choices.weight_bits.values, space.choices.weight_bits.values)
            },
            spikes=_spike_losses(loss, name, spike_bits, time_steps),
            membranes={
                width: _spike_losses(
                    loss,
                    name,
                    [bits for bits in spike_bits if bits < width + loss.network.layers[name].signed_input],
                    [steps for steps in time_steps if width in choices.membranes_at(steps)],
                    width,
                )
                for width in (choices.membranes_at(choices.time_steps.high) if choices.chooses_membranes else ())
            },
            binning={}
            if loss.binning is None
            else {steps: loss.factors[name] * loss.binning(name, steps) for steps in time_steps},
        )
    start = problem.quantized(problem.plan(problem.settings.start))
    with torch.no_grad():
        activity = measure_activity(start, *samples.parts(samples.fitted))
    return Scores(
        geometry=(*model.layers, *model.unquantized),
        staying=dict(model.staying),
        poolings=None if model.poolings is None else dict(model.poolings),
        firing_rate=dict(activity.firing_rate),
        synaptic_rate=dict(activity.synaptic_rate),
        layers=layers,
    )


def _spike_losses(
    loss: FisherLossModel, name: str, spike_bits: Sequence[int], time_steps: Sequence[int], width: int | None = None
) -> dict[int, dict[int, float]]:
    return {
        steps: {bits: loss.factors[name] * loss.neuron_loss(name, (bits,) * steps, width) for bits in spike_bits}
        for steps in time_steps
    }


def write_scores(folder: RunFolder, scores: Scores) -> None:
    """Write ``scores.json``."""
    write_whole(folder.scores_file, scores.model_dump_json(indent=1))


def read_scores(folder: RunFolder) -> Scores:
    """What a run has scored; InputError if it has not, or the file is no such."""
    path = folder.scores_file
    if not path.is_file():
        raise InputError(f"{folder.path} holds no scores; give a run that `bitsearch allocate` wrote")
    try:
        scores = Scores.model_validate_json(read_text(path, "scores"))
        # A plan of any bits shows whether the layers' geometry makes one.
        scores.model(Target.load("generic"), first_layer_counted=True).uniform(ANY_BITS, None)
        return scores
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, Scores)}; put the run's own file back") from error


def _either(first: Iterable[int], second: Iterable[int]) -> list[int]:
    return sorted({*first, *second})


def _kept(table: Mapping[_Key, _Value], key: _Key, what: str) -> _Value:
    if key not in table:
        raise InputError(
            f"{what} was not scored; allocate anew, with a space and a target that allow it, in place of --from"
        )
    return table[key]
