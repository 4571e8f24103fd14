"""Room for budgets: a first layer whose fixed bits nobody asked for gives way to them."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from bitsearch.cost import AllowedBits, Budget
from bitsearch.cost.first_layer import relaxation
from bitsearch.train.task import Task


def with_room(limits: Sequence[Budget], task: Task) -> Task:
    """The task with ``[[layers]]`` that let its first layer's bits fall, where the space allows it and budgets ask it.

    The rules stand in front of the user's own, which win. In what comes of it, the first layer is relaxed no further,
    so that a run that goes on has the same rules.
    """
    space, model = task.space, task.model
    if not space.first_layer.relax:
        return task
    first_layer = space.first_layer.model_copy(update={"relax": False})
    counted = [limit for limit in limits if not model.needs_activity(limit.metric)]
    missed = [limit for limit in counted if not limit.met_by(model, task.rules.smallest(model))]
    space = space.model_copy(update={"first_layer": first_layer})
    relaxed = (
        relaxation(model, task.rules, lambda plan: all(limit.met_by(model, plan) for limit in counted), space.choices)
        if missed
        else ()
    )
    if not relaxed:
        return replace(task, space=space)
    space = space.model_copy(update={"layers": (*relaxed, *space.layers)})
    names = ", ".join(repr(rule.match[0]) for rule in relaxed)
    numbers = sorted({number for rule in relaxed for number in rule.numbers})
    warnings.warn(
        f"budget {missed[0].requested} has no room for the first layer {names} at {first_layer.bits()}: the search may "
        f"lower its {' and '.join(numbers)}",
        stacklevel=4,
    )
    return replace(task, space=space, rules=AllowedBits.make(model, space.choices, first_layer, space.layers))
