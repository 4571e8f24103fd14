"""The outer loop of a measurement: one method at one budget after another, its settings fixed or searched."""

import json
from collections.abc import Callable, Iterator, Sequence

import optuna

from benchmarks.evidence.runs import Ledger, Row, Stage
from bitsearch.cost import Budget
from bitsearch.renamed import current_name
from bitsearch.study.sampler import make_sampler, starting_points, suggest

Choose = Callable[[int], Sequence[Budget]]
"""The budgets of an attempt, from 0."""


def attempts(
    stage: Stage, key: Row, budgets: Choose, ledger: Ledger, *, searched: bool, settings: Row
) -> Iterator[list[Row]]:
    """The rows of one attempt after another, run or read from the ledger; endless.

    With ``searched`` the outer loop's sampler varies the parameters of the space after the first attempt, as
    :func:`bitsearch.study.run.search` does; ``settings``, the method among them, stand above these.
    """
    space = stage.space
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"])
    attempt = 0
    while True:
        named = key | {"attempt": attempt}
        known = [row for row in ledger.rows if all(row[name] == value for name, value in named.items())]
        if searched:
            study.sampler = make_sampler(space, stage.seed, attempt)
            if known:
                before = json.loads(known[-1]["parameters"])
                study.enqueue_trial({current_name(name): value for name, value in before.items()})
            elif attempt == 0:
                study.enqueue_trial(starting_points(space)[0])
        trial = study.ask()
        parameters = suggest(trial, space) if searched else {}
        limits = budgets(attempt)
        if not known:
            given = space.allocation_with(parameters | settings)
            found = stage.run(given, limits, attempt=attempt)
            shared = {"limit": limits[0].limit, "parameters": json.dumps(parameters)}
            ledger.add(named, [shared | row for row in found])
            known = [named | shared | row for row in found]
        study.tell(trial, (known[-1]["validation"], known[-1][space.metric]))
        yield known
        attempt += 1
