"""A whole allocation without training: score once, solve and calibrate for every budget, choose."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bitsearch.calibrate import ITERATIONS, calibration_splits
from bitsearch.choices import NeuronChoice
from bitsearch.errors import InputError
from bitsearch.launch import launched_world_size
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.post_training.allocation import METHOD, PlannedAllocation
from bitsearch.post_training.damage import warn_of_damage
from bitsearch.post_training.unlabelled import with_predicted_labels
from bitsearch.runs.interruption import Stop
from bitsearch.runs.progress import Progress
from bitsearch.runs.resume import lock_run_folder
from bitsearch.runs.run_settings import CalibrationSettings
from bitsearch.space import SearchSpace
from bitsearch.study import arguments
from bitsearch.study.opening import make_folder, make_processes
from bitsearch.study.phases import begin, conclude, full_precision
from bitsearch.study.request import resolve
from bitsearch.study.result import SearchResult
from bitsearch.study.runtime import runtime_context
from bitsearch.validation import whole

SAMPLES = 256
BUDGETS = "4x,8x,16x,32x"


def allocate(
    source: SearchSpace | str | Path | nn.Module,
    calibration: Any = None,
    budgets: str | Sequence[str] = BUDGETS,
    *,
    budget: str | Sequence[str] = (),
    space: SearchSpace | str | Path | None = None,
    time_axis: int | None = None,
    task: str | Mapping[str, Any] | None = None,
    layers: Sequence[LayerRule | Mapping[str, Any] | str] = (),
    ties: Sequence[TieRule | Mapping[str, Any] | str] = (),
    neuron: NeuronChoice | Mapping[str, Any] | None = None,
    metric: str | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    samples: int = SAMPLES,
    iterations: int = ITERATIONS,
    fine_tune: int = 0,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    reports: str | Path = "reports",
    progress: Progress | None = None,
    command: str | None = None,
) -> SearchResult:
    """Plans for several budgets in minutes: a trained network is scored once, and calibrated, not trained, at each.

    Scores are predicted losses of every layer's bits; an integer program finds the plan with the least of them within a
    budget, exactly. Its step sizes are renewed, batch norms re-estimated, biases corrected, and roundings and steps
    reconstructed, on some hundred training samples whose labels do not count. The best uniform plan within each budget
    is calibrated alike. What comes out is a run folder like that of :func:`bitsearch.search`.

    Args:
        source: a search space, the name of a shipped one, or the path of a TOML file; or a trained network.
        calibration: of a network, its data: (train, validation, test) or (train, validation), as for
            :func:`bitsearch.search`; calibration samples are drawn from the first part. Where no part has labels, or
            it is one data set or tensor of inputs alone, plans are judged by whether they predict what the network
            does.
        budgets: on one metric, such as ``4x,8x``: a plan for each.
        budget: further ones on other metrics, which every plan meets.
        space: of a network: settings in place of the space ``digits``.
        time_axis: of a network: where loaders' inputs have frames.
        task: what the network is trained for; the space's own, or classification.
        layers: further layer rules, as for :func:`bitsearch.search`, as are ``ties`` and ``neuron``.
        metric: of budgets that name none; the space's by default.
        target: hardware target; the space's by default.
        weights: file of the space's network's trained weights; without, it is trained first.
        samples: calibration samples; a quarter of them is held out, and judges every step.
        iterations: of a reconstruction; 0 leaves it out.
        fine_tune: epochs for which the best plan and the best uniform one of every budget are trained on, with labels.
        seed: of the calibration samples and of whatever is trained.
        device: as for :func:`bitsearch.search`, as are ``out``, ``reports``, ``progress`` and ``command``.

    Raises:
        InputError: as :func:`bitsearch.search`; or fewer samples than calibration takes.

    >>> result = bitsearch.allocate(space, budgets="1x,2x", metric="s_ace", samples=64, out="minutes")
    >>> len(result.sweep), all(plan.met for plan in result.uniform)
    (2, True)
    """
    if launched_world_size() > 1:
        raise InputError("allocate runs in one process; start it without torchrun")
    samples, iterations = whole(samples, "samples", 1), whole(iterations, "iterations", 0)
    fine_tune = whole(fine_tune, "fine_tune", 0)
    wanted = arguments.texts(budgets, "budgets")
    requests = wanted.split(",") if isinstance(wanted, str) else wanted or []
    several = len(requests) > 1
    if calibration is not None and not isinstance(source, nn.Module):
        raise InputError("calibration data are for a network; a search space has its own")
    further = arguments.texts(budget, "budget")
    others = [further] if isinstance(further, str) else further or []
    if isinstance(source, nn.Module) and calibration is not None:
        calibration = _labelled(source, calibration, time_axis, task, fine_tune)
    request = resolve(
        source,
        calibration,
        others if several else [*requests, *others],
        space=space,
        time_axis=time_axis,
        training={},
        learning_task=task,
        layers=layers,
        ties=ties,
        neuron=neuron,
        method=METHOD,
        metric=metric,
        objective=None,
        max_drop=None,
        minimize=None,
        sweep=requests if several else None,
        target=target,
        weights=weights,
        trials=max(1, len(requests)),
        seed=seed,
        device=device,
        storage=None,
        command=command or _command(source, requests, samples=samples, fine_tune=fine_tune, seed=seed),
    )
    loaded = request.task
    calibrated = CalibrationSettings(samples=samples, iterations=iterations, fine_tune=fine_tune)
    settings = request.settings.model_copy(update={"calibration": calibrated, "compiled": False})
    splits = calibration_splits(loaded.splits, samples, seed)
    reporter = progress or Progress()
    stop = Stop(lambda: reporter.note("stopping after this plan; Ctrl-C again stops at once"))
    processes = make_processes(loaded, settings, stop)
    folder = make_folder(settings, out, reports)
    with lock_run_folder(folder), stop.handle_signals(), runtime_context(loaded, compiled=False):
        begin(folder, settings, loaded)
        reporter.score = loaded.learning_task.score
        reporter.converted(loaded.conversion())
        network = full_precision(folder, processes, reporter)
        PlannedAllocation(folder, processes, splits, reporter).run()
        result = conclude(folder, loaded, network)
        warn_of_damage(folder)
    return result


def _labelled(
    network: nn.Module, calibration: Any, time_axis: int | None, task: str | Mapping[str, Any] | None, fine_tune: int
) -> Any:
    """The data, with the network's predictions where they have no labels."""
    if task not in (None, "classification"):
        return calibration
    data, predicted = with_predicted_labels(network, calibration, time_axis)
    if predicted and fine_tune:
        raise InputError(f"fine_tune is {fine_tune}, and the data have no labels to train on; give labels, or 0")
    return data


def _command(source: object, requests: Sequence[str], **options: int) -> str:
    """The call as one would type it."""
    first = "network, calibration" if isinstance(source, nn.Module) else repr(str(getattr(source, "name", source)))
    named = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"bitsearch.allocate({first}, budgets={','.join(requests)!r}, {named})"
