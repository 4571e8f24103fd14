"""Cost metrics of the user's own: declared by name, imported when they are first computed, and checked."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch

from bitsearch.choices import Number
from bitsearch.cost.metric import Bits, Geometry, Metric, Terms
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.cost.rules import AllowedBits
from bitsearch.declared_metric import DeclaredMetric
from bitsearch.errors import InputError, located
from bitsearch.plug_ins import load_plug_in
from bitsearch.registry import Factory, find_factory

TOLERANCE = 1e-3
"""Relative, between float32 and float64: some functions cancel."""
_NUMBERS: tuple[Number, ...] = ("weight_bits", "spike_bits", "time_steps")


def declare_metrics(declared: Mapping[str, DeclaredMetric]) -> None:
    """Let the metrics of a search space be known by their names; nothing is imported yet.

    Another space of the process may have another metric by a name: a :class:`CostModel` keeps to the one that was
    declared when it was made, and :attr:`bitsearch.runs.folder.RunFolder.settings` declares a run's own again, whose
    unit and words are then those that are printed.

    Raises:
        InputError: a name that bitsearch or a package has.
    """
    for name, metric in declared.items():
        known = next((entry for entry in METRICS.values() if name in (entry.name, entry.alias)), None)
        if known is None or not known.everywhere:
            METRICS[name] = _metric(name, metric)
        elif known.declared != metric:
            owner = "bitsearch" if known.declared is None else "a package"
            raise InputError(f"metrics.{name}: {owner} has a metric of that name; give yours another")


def find_metric(name: str) -> None:
    """Let a metric be known that a package declares, if there is one by this name; InputError if it is none."""
    if any(name in (entry.name, entry.alias) for entry in METRICS.values()):
        return
    plug_in = load_plug_in("cost metric", name)
    if plug_in is None:
        return
    if not isinstance(plug_in, DeclaredMetric):
        raise InputError(
            f"cost metric {name!r} of a package is {type(plug_in).__name__}, not a bitsearch.DeclaredMetric"
        )
    # A package's is everybody's who has installed it.
    METRICS[name] = replace(_metric(name, plug_in), everywhere=True)


def _metric(name: str, declared: DeclaredMetric) -> Metric:
    label = f"metrics.{name} {declared.function!r}"

    @cache
    def function() -> Factory:
        # Once: a solver asks for costs thousands of times, and an import, even of what is there, searches the path.
        return find_factory(declared.function, {}, "cost metric")

    def terms(geometry: Geometry, bits: Bits) -> Terms:
        compute = function()
        # A cost that some of the bits do not matter to has their shape all the same.
        zeros = 0 * (bits.weights + bits.spikes + bits.time_steps)
        try:
            values = compute(geometry, bits)
        except (Exception, SystemExit) as error:
            raise InputError(f"{label} failed at {located(error)}") from error
        kind = torch.Tensor if isinstance(zeros, torch.Tensor) else np.ndarray
        if not isinstance(values, (kind, int, float, np.number)):
            raise InputError(
                f"{label} returns {type(values).__name__} for {kind.__name__}s; return one cost a layer, computed from "
                "what is given by + - * / ** alone"
            )
        try:
            values = values + zeros
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{label} returns what is no cost a layer: {located(error)}") from error
        # A rate that is not measured yet makes an unknown cost.
        unknown = (
            declared.firing_rates and not isinstance(zeros, torch.Tensor) and np.isnan(geometry.firing_rates).any()
        )
        _check_values(values, zeros, label, finite=not unknown)
        return (values,)

    return Metric(
        name,
        declared.unit,
        declared.title or name,
        declared.description,
        terms,
        peak=declared.peak,
        activity=lambda target: declared.firing_rates,
        declared=declared,
        everywhere=False,
    )


def check_declared_metric(name: str, model: CostModel, rules: AllowedBits) -> None:
    """Check a metric of the user's own on a network: what the solvers, the gradient and the page rely on.

    Raises:
        InputError: the function fails, returns something else than a cost a layer, mixes layers, does not work on
            tensors, or falls where a layer gets more bits.
    """
    metric = model.metric(name)
    if metric.declared is None:
        return
    label = f"metrics.{name} {metric.declared.function!r}"
    geometry = _counted(model.geometry()) if metric.declared.firing_rates else model.geometry()
    names = [layer.name for layer in (*model.layers, *model.unquantized)]
    most = {number: [getattr(rules.choices[layer.name], number).high for layer in model.layers] for number in _NUMBERS}
    (top,) = metric.terms(geometry, _bits(model, most))
    for index, layer in enumerate(names):
        (alone,) = metric.terms(_at(geometry, index), _bits_at(_bits(model, most), index))
        if not np.allclose(alone[0], top[index], rtol=1e-9):
            raise InputError(
                f"{label} gives layer {layer!r} {top[index]:.6g} among the others and {alone[0]:.6g} alone; it has to "
                "be a function of each layer by itself"
            )
    vectors = {key: value for key, value in vars(geometry).items() if key != "target"}
    tensors = Geometry(
        **{key: torch.tensor(value, dtype=torch.float32) for key, value in vectors.items()}, target=geometry.target
    )
    for number in _NUMBERS:
        _check_number(number, metric, model, rules, geometry, tensors, label)


def _check_values(values: Any, zeros: Any, label: str, *, finite: bool) -> None:
    """Raise InputError for what is not one cost a layer, of the kind that the bits are of."""
    is_tensor = isinstance(zeros, torch.Tensor)
    if values.dtype != zeros.dtype:
        raise InputError(f"{label} returns {values.dtype} for bits of {zeros.dtype}; return the same")
    if values.shape != zeros.shape:
        raise InputError(
            f"{label} returns shape {list(values.shape)} for bits of shape {list(zeros.shape)}; return one cost a layer"
        )
    if finite and not is_tensor and not (np.isfinite(values).all() and (values >= 0).all()):
        raise InputError(
            f"{label} returns {values.min():.6g} for a layer; a cost is a finite number, and not below zero; if it "
            "reads firing rates, set firing_rates = true"
        )


def _check_number(
    number: Number,
    metric: Metric,
    model: CostModel,
    rules: AllowedBits,
    geometry: Geometry,
    tensors: Geometry,
    label: str,
) -> None:
    """At every corner of the other numbers' choices, more of one costs at least as much, and tensors say the same.

    Where the cost changes, the gradient says so, at some value.
    """
    choices = [rules.choices[layer.name] for layer in model.layers]
    others = [other for other in _NUMBERS if other != number]
    values = sorted({value for each in choices for value in getattr(each, number).values})
    changes, slope = False, 0.0
    for corner in product(("low", "high"), repeat=2):
        plan: dict[Number, list[int]] = {
            other: [getattr(getattr(each, other), end) for each in choices]
            for other, end in zip(others, corner, strict=True)
        }
        before = None
        for value in values:
            plan[number] = [value] * len(choices)
            (terms,) = metric.terms(geometry, _bits(model, plan))
            slope += _tensor_slope(number, metric, model, tensors, plan, terms, label)
            if before is not None and (terms < before * (1 - 1e-9)).any():
                name = model.layers[int(np.argmax(before - terms)) % len(model.layers)].name
                raise InputError(
                    f"{label} falls in layer {name!r} when {number} rises to {value}; a cost has to rise, or stay"
                )
            changes = changes or (before is not None and not np.allclose(terms, before, rtol=TOLERANCE))
            before = terms
    if changes and slope == 0:
        raise InputError(
            f"{label} has no gradient in {number}, with which it changes; compute it from tensors, without numpy, "
            ".item(), .detach() and rounding"
        )


def _tensor_slope(
    number: Number,
    metric: Metric,
    model: CostModel,
    geometry: Geometry,
    plan: Mapping[Number, list[int]],
    expected: Any,
    label: str,
) -> float:
    """Sum of the absolute gradients in a number; InputError where the cost is not what it is for arrays."""
    numbers = {key: torch.tensor(values, dtype=torch.float32, requires_grad=True) for key, values in plan.items()}
    (result,) = metric.terms(geometry, model.vectors(*(numbers[key] for key in _NUMBERS)))
    if not np.allclose(result.detach().numpy(), expected, rtol=TOLERANCE):
        raise InputError(f"{label} gives other numbers for tensors than for arrays; compute both by the same formula")
    (gradient,) = torch.autograd.grad(result.sum(), numbers[number])
    return float(gradient.abs().sum())


def _bits(model: CostModel, numbers: Mapping[Number, list[int]]) -> Bits:
    return model.vectors(*(np.asarray(numbers[number], dtype=np.float64) for number in _NUMBERS))


def _counted(geometry: Geometry) -> Geometry:
    """With a rate of one half where none is measured yet."""
    rates = {key: np.nan_to_num(getattr(geometry, key), nan=0.5) for key in ("firing_rates", "synaptic_rates")}
    return replace(geometry, **rates)


def _at(geometry: Geometry, index: int) -> Geometry:
    vectors = {key: value[index : index + 1] for key, value in vars(geometry).items() if key != "target"}
    return replace(geometry, **vectors)


def _bits_at(bits: Bits, index: int) -> Bits:
    return Bits(*(None if value is None else value[index : index + 1] for value in vars(bits).values()))
