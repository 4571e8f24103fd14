"""What a search is asked for, checked and resolved, before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitsearch.choices import NeuronChoice
from bitsearch.cost import Budget, parse_budgets
from bitsearch.cost.budget import check_metric, target_limits
from bitsearch.cost.reference import reference
from bitsearch.deploy.rehearsal import rehearse
from bitsearch.errors import InputError, redact
from bitsearch.launch import launched_world_size
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.models.trained_weights import checksum
from bitsearch.runs.command_line import python_command
from bitsearch.runs.goal import AccuracyGoal
from bitsearch.runs.run_settings import RunSettings
from bitsearch.runs.sweep import parse_sweep
from bitsearch.space import SearchSpace
from bitsearch.study import arguments
from bitsearch.study.objects import object_checksum, objects_of, space_of, template_of
from bitsearch.study.room import with_room
from bitsearch.study.runtime import should_compile
from bitsearch.train.task import Task, load_task
from bitsearch.train.threads import threads_for
from bitsearch.validation import MAX_SEEDS, whole
from bitsearch.version import __version__

NO_LIMIT = "no budget is given; give one such as '4x', a sweep of several, or how much accuracy may be lost: max_drop"


@dataclass(frozen=True)
class Request:
    """A search that can begin."""

    task: Task
    settings: RunSettings
    trials: int
    """That search, of each method."""


def resolve(
    source: SearchSpace | str | Path | nn.Module,
    data: Any,
    budget: str | Sequence[str] | None,
    *,
    space: SearchSpace | str | Path | None,
    time_axis: int | None,
    training: Mapping[str, Any],
    learning_task: str | Mapping[str, Any] | None,
    loss: Any = None,
    method: str | None,
    metric: str | None,
    objective: str | None,
    max_drop: str | float | None,
    minimize: str | None,
    sweep: str | Sequence[str] | None,
    target: str | Path | None,
    weights: str | Path | None,
    layers: Sequence[LayerRule | Mapping[str, Any] | str] = (),
    ties: Sequence[TieRule | Mapping[str, Any] | str] = (),
    neuron: NeuronChoice | Mapping[str, Any] | None = None,
    trials: int | None,
    seed: int,
    device: str,
    storage: str | None,
    command: str | None,
    own_training: bool = False,
) -> Request:
    """The request of :func:`bitsearch.study.run.search`'s arguments.

    ``training`` has fields of ``[training]``, and ``learning_task`` those of ``[task]``, or its name; ``layers`` and
    ``ties`` are further entries of the space's, ``neuron`` fields of its ``[neuron]``. A loss and a metric may be
    functions.

    With ``own_training``, they are those of :class:`bitsearch.study.own_study.Study`.

    Raises:
        InputError: one of them is wrong, or does not go with another.
    """
    arguments.check_source(source)
    metric, objective = arguments.cost_name(metric, "metric"), arguments.cost_name(objective, "objective")
    minimize = arguments.cost_name(minimize, "minimize")
    layers, ties, device = arguments.rules(layers), arguments.rules(ties), arguments.device_name(device)
    trials = None if trials is None else whole(trials, "trials", 1)
    seed, sweep = whole(seed, "seed", 0, MAX_SEEDS - 1), arguments.texts(sweep, "sweep")
    if isinstance(source, nn.Module) or budget is not None:
        budget = arguments.texts(budget, "budget")
    else:
        data = arguments.texts(data, "budget")
    objects, limited = None, any(limit is not None for limit in (budget, max_drop, sweep))
    if isinstance(source, nn.Module):
        if data is None or not limited:
            raise InputError(
                "a network comes with its data and a budget: bitsearch.search(network, (train, validation), '4x')"
            )
        template = template_of(space)
        learning_task = arguments.task_settings(learning_task, loss, template.task)
        template = template.with_task(learning_task)
        objects = objects_of(source, data, time_axis=time_axis, task=template.task)
        space = space_of(objects, space, training, template.task)
    else:
        if space is not None or time_axis is not None or (data is not None and budget is not None):
            raise InputError("data, space and time_axis are for a network; a search space has its own")
        budget, limited = data if budget is None else budget, limited or data is not None
        space = source if isinstance(source, SearchSpace) else SearchSpace.load(source)
        learning_task = arguments.task_settings(learning_task, loss, space.task)
        space = space.with_training(training).with_task(learning_task)
    if not limited:
        raise InputError(NO_LIMIT)
    space = space if method is None else space.with_method(method)
    space = space.with_layers(layers).with_ties(ties).with_neuron(neuron)
    if target is not None:
        space = space.model_copy(update={"target": str(target)})
    if weights is not None:
        space = space.with_weights(weights)
    if objects is None and space.weights is None and space.training.full_precision_epochs == 0:
        raise InputError(
            "training.full_precision_epochs is 0, and there are no trained weights to start from; give their file with "
            "--weights, or at least one epoch"
        )
    weights_sha256 = None if space.weights is None else checksum(Path(space.weights))
    if objects is not None:
        weights_sha256 = object_checksum(objects.network)
    goal = _goal(max_drop, minimize, objective, sweep, space)
    task = load_task(space, seed=seed, device=device, objects=objects)
    space, model = task.space, task.model
    rehearse(task.untrained, task.examples, task.rules.smallest(model), model.target)
    if goal is not None:
        goal.check(task.learning_task.score)
    bare = check_metric(metric or space.metric, model.target, model.declared)
    stops = [] if sweep is None else parse_sweep(sweep, bare, model, space.baseline)
    budgets = _budgets(budget, bare, stops, task)
    axis = budgets[0].metric if budgets and not budgets[0].of_target else bare
    if objective or minimize:
        axis = check_metric(objective or minimize or "", model.target, model.declared)
    model.metric(axis)
    if stops and axis != stops[0].metric:
        raise InputError(f"objective is {axis}, and the sweep is of {stops[0].metric}; give a sweep of {axis}")
    task = with_room([*budgets, *stops], task)
    space = task.space
    for limit in [*budgets, *stops]:
        limit.check_feasible(model, task.rules)
    count = trials or space.search.trials
    if count < len(stops):
        raise InputError(f"trials is {count}; a sweep of {len(stops)} budgets takes at least {len(stops)}")
    asked = {
        "budget": budget or None,
        "time_axis": time_axis,
        "training": dict(training) or None,
        "task": learning_task,
        "method": None if own_training else method,
        "weights": None if weights is None else str(weights),
        "metric": metric,
        "objective": objective,
        "max_drop": max_drop,
        "minimize": minimize,
        "sweep": sweep,
        "layers": list(layers) or None,
        "ties": list(ties) or None,
        "neuron": neuron,
        "trials": trials,
        "seed": seed,
    }
    settings = RunSettings(
        compiled=should_compile(task, count),
        metric=axis,
        budgets=tuple(budgets),
        goal=goal,
        sweep=tuple(stops),
        seed=seed,
        device=str(task.device),
        threads=threads_for(task.activations),
        processes=launched_world_size(),
        storage=None if storage is None else redact(storage),
        command=redact(command) if command else python_command(space, "Study" if own_training else "search", **asked),
        own_training=own_training,
        bitsearch=__version__,
        torch=torch.__version__,
        weights_sha256=weights_sha256,
        baseline_costs=model.costs(model.uniform(space.baseline, None)),
        reference=reference(model),
        space=space,
        target=model.target,
    )
    return Request(task, settings, count)


def _budgets(budget: str | Sequence[str] | None, metric: str, stops: Sequence[Budget], task: Task) -> list[Budget]:
    """What every plan meets: the loosest of a sweep, what was asked for beside it, and the target's limits."""
    limits = target_limits(task.model.target)
    parsed = parse_budgets(budget, metric, task.model, task.space.baseline) if budget else []
    requested = [limit for limit in parsed if not limit.of_target]
    if not stops:
        return [*requested, *limits]
    if any(limit.metric == stops[0].metric for limit in requested):
        raise InputError(
            f"a budget and the sweep both limit {stops[0].metric}; the sweep's loosest is met by every plan"
        )
    return [max(stops, key=lambda stop: stop.limit), *requested, *limits]


def _goal(
    max_drop: str | float | None,
    minimize: str | None,
    objective: str | None,
    sweep: str | Sequence[str] | None,
    space: SearchSpace,
) -> AccuracyGoal | None:
    for name, value in {"max_drop": max_drop, "sweep": sweep}.items():
        if value is not None and space.search.methods:
            raise InputError(f"search.methods and {name} were both given; methods take turns at a budget only")
    if max_drop is None:
        if minimize is not None:
            raise InputError("minimize is for an accuracy goal; give max_drop too, or objective for a budget's front")
        return None
    if objective is not None:
        raise InputError("objective and max_drop were both given; with max_drop, minimize names the cost")
    if sweep is not None:
        raise InputError("sweep and max_drop were both given; give one of them")
    return AccuracyGoal.parse(str(max_drop))
