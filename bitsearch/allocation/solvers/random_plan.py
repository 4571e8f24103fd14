"""A random plan to which nothing can be added within the budgets."""

from collections.abc import Mapping, Sequence

import numpy as np

from bitsearch.allocation.moves import Move, moves, plan_after
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.plan import LayerPlan


def random_plan(
    smallest: Mapping[str, LayerPlan],
    model: CostModel,
    rules: AllowedBits,
    budgets: Sequence[Budget],
    generator: np.random.Generator,
    activity: SpikeStatistics | None = None,
) -> dict[str, LayerPlan]:
    """A plan to which nothing can be added: from the fewest bits upwards, one random number of one layer at a time.

    Layers are drawn alike, then the number that grows; layers that share it grow together.
    """
    plan = dict(smallest)
    full: set[tuple[str, Move]] = set()
    while True:
        choices: dict[str, list[Move]] = {}
        for name in rules.searched:
            layer, choices_of_layer = plan[name], rules.choices[name]
            membrane = rules.membrane_of(name, layer)
            steps_up = moves(layer.weight_bits, layer.spike_bits, choices_of_layer, 1, membrane)
            # The first of those that share a number moves for all of them.
            first = [move for move in steps_up if rules.sharing(name, move.number)[0] == name]
            choices[name] = [move for move in first if (name, move) not in full]
        names = [name for name in choices if choices[name]]
        if not names:
            return plan
        name = names[int(generator.integers(len(names)))]
        move = choices[name][int(generator.integers(len(choices[name])))]
        tried = plan_after(plan, name, move, rules)
        if all(budget.met_by(model, tried, activity) for budget in budgets):
            plan = tried
            # A longer time may make a spike bit cheaper: mean bits fall with it.
            full.clear()
        else:
            full.add((name, move))
