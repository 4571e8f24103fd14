r"""Accuracy of every method against the best of the whole uniform grid, at several budgets.

    python -m benchmarks.evidence.accuracy --space digits --out reports/evidence/accuracy-digits
    python -m benchmarks.evidence.accuracy --space digits_events --seeds 2 --out reports/evidence/accuracy-digits_events
    python -m benchmarks.evidence.accuracy --space cifar10_folder --set data_options.root=ROOT \
        --set training.full_precision_epochs=60 --set training.epochs=6 --set training.precision=bfloat16 \
        --set 'choices.weight_bits=[1,2,3,4,6,8]' --set 'choices.spike_bits=[1,2,3,4,6,8]' \
        --set 'choices.time_steps=[1,2]' --seeds 1 --trials 1 --finalists 2 --compile \
        --methods uniform,adaptive,sensitivity,published,adaptive+distillation \
        --out reports/evidence/accuracy-cifar10_complete

The last goes on from the network that ``benchmarks.evidence.full_precision`` left in the folder ``float`` there.

Besides methods by their names, ``published`` is the adaptive method as it is in the paper (straight-through gradients,
the means of bits drawn to targets), and ``METHOD+distillation`` learns from the full-precision network as well.

All runs of a seed start from the same float network. A method has so many trials at every budget, the first with its
own settings, the others with settings that the outer loop's sampler chooses; ``ramp`` runs at the tightest budget and
passes the others on its way. Of the uniform grid every plan is trained to which nothing can be added within a budget;
with ``--finalists 2``, for one epoch, and then the two of every budget that are best on validation, in full.
What stands for a method at a budget is the plan that is best on validation among all of its plans that meet the budget;
the test accuracy shown is that one's.
"""

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import get_args

import pandas as pd
import torch

from benchmarks.evidence import command
from benchmarks.evidence.accuracy_report import FULL_PRECISION, report
from benchmarks.evidence.outer import attempts
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.allocation_settings import MethodName
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.quant.compilation import compiled_quantizers
from bitsearch.space import SearchSpace
from bitsearch.training import Distillation

KEYS = ("seed", "method", "budget", "attempt")
WHOLE_GRID = 10_000
PUBLISHED = {"method": "adaptive", "estimator": "straight_through", "regularizer": "means"}
DISTILLED = "+distillation"
RANKED = ("plan", "validation", "epochs", "cpu_seconds")
"""What is kept of an epoch that ranks; its test accuracy is not."""


def parse(stage: Stage, request: str) -> Budget:
    """A budget such as ``4x``, of the space's own metric."""
    space, model = stage.space, stage.task.model
    budget = Budget.parse(request, space.metric, model, space.baseline)
    budget.check_feasible(model, stage.task.rules)
    return budget


def measure(
    stage: Stage,
    requests: Sequence[str],
    methods: Sequence[str],
    trials: int,
    ledgers: tuple[Ledger, Ledger],
    finalists: int | None,
    refused: dict[tuple[str, str], str],
) -> Iterator[str]:
    """Run what is missing, most important first; yields what is done. What cannot be done is noted.

    Args:
        stage: where all start.
        requests: budgets.
        methods: by name.
        trials: of each method at each budget.
        ledgers: of the runs, and of the epoch that uniform plans are ranked by.
        finalists: how many uniform plans of a budget are trained in full; all by default.
        refused: grows by (method, budget): reason.
    """
    ledger, ranking = ledgers
    budgets: dict[str, Budget] = {}
    for request in requests:
        try:
            budgets[request] = parse(stage, request)
        except InputError as error:
            refused["any method", request] = str(error)
    tightest = min(budgets, key=lambda request: budgets[request].limit)
    key: Row = {"seed": stage.seed, "method": FULL_PRECISION, "budget": "any", "attempt": 0}
    if key not in ledger:
        ledger.add(key, [stage.float_row()])
    for attempt in range(trials):
        # What all others are compared with comes first.
        for method in sorted(methods, key=lambda name: not name.startswith("uniform")):
            base = method.removesuffix(DISTILLED)
            own_stage = stage if base == method else distilled(stage)
            for request in [tightest] if base == "ramp" else budgets:
                budget = budgets[request]
                if base == "uniform":
                    if attempt == 0:
                        _uniform(own_stage, method, request, budget, ledger, ranking, finalists)
                        yield f"{method} grid at {request}"
                    continue
                key = {"seed": stage.seed, "method": method, "budget": request}
                settings = PUBLISHED if base == "published" else {"method": base, "ramp.steps": len(budgets)}
                own = attempts(
                    own_stage, key, lambda _, budget=budget: [budget], ledger, searched=True, settings=settings
                )
                try:
                    next(islice(own, attempt, None))
                except InputError as error:
                    refused[method, request] = str(error)
                yield f"{method} at {request}, trial {attempt + 1}"


def distilled(stage: Stage) -> Stage:
    """The same, but that fine-tuning learns from the full-precision network, too."""
    found = copy.copy(stage)
    found.space = stage.space.with_training({"distillation": Distillation()})
    return found


def _uniform(
    stage: Stage,
    method: str,
    request: str,
    budget: Budget,
    ledger: Ledger,
    ranking: Ledger,
    finalists: int | None,
) -> None:
    """Plans of the grid to which nothing can be added within the budget: all, or those that an epoch ranks first."""
    task = stage.task
    grid = uniform_plans(
        task.model, task.rules, [budget], WHOLE_GRID, weight_tolerance=task.space.allocation.weight_tolerance
    )
    plans = {number: task.rules.nearest(task.model, bits, granularity="layer") for number, bits in enumerate(grid)}
    keys: dict[int, Row] = {
        number: {"seed": stage.seed, "method": method, "budget": request, "attempt": number} for number in plans
    }
    if finalists is not None and len(plans) > finalists:
        for number, plan in plans.items():
            if keys[number] not in ranking:
                found = stage.fixed(plan, epochs=1)
                ranking.add(keys[number], [{name: found[name] for name in RANKED}])
        plans = {number: plans[number] for number in first(ranking.table, keys, finalists)}
    for number, plan in plans.items():
        if keys[number] not in ledger:
            ledger.add(keys[number], [{"limit": budget.limit} | stage.fixed(plan)])


def first(ranking: pd.DataFrame, keys: dict[int, Row], count: int) -> list[int]:
    """The numbers of the plans that are best on validation after one epoch, in the order of the numbers."""
    scores = ranking.set_index(list(KEYS))["validation"]
    best = sorted(keys, key=lambda number: -scores[tuple(keys[number][key] for key in KEYS)])
    return sorted(best[:count])


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, space="digits", budgets="4x,8x,16x,32x", seeds=3)
    parser.add_argument("--methods", default=",".join(get_args(MethodName)))
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--finalists", type=int, help="uniform plans of a budget trained in full, of those ranked")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compiled quantizers: for networks that are worth it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with compiled_quantizers() if arguments.compile else nullcontext():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """What the arguments ask for."""
    space = SearchSpace.load(arguments.space).override(arguments.set)
    requests, methods = arguments.budgets.split(","), arguments.methods.split(",")
    ledgers = Ledger(arguments.out / "runs.csv", KEYS), Ledger(arguments.out / "ranking.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    limits: dict[str, float] = {}
    samples = 0
    refused: dict[tuple[str, str], str] = {}
    for seed in range(arguments.seeds):
        # What there is is reported even where no time was given at all.
        if limits and time.monotonic() > deadline:
            break
        stage = Stage(space, seed, arguments.out / "float", outcomes=True)
        samples = len(stage.task.splits.test)
        model, baseline = stage.task.model, space.baseline
        limits = {request: Budget.parse(request, space.metric, model, baseline).limit for request in requests}
        if time.monotonic() > deadline:
            break
        for done in measure(stage, requests, methods, arguments.trials, ledgers, arguments.finalists, refused):
            progress(f"seed {seed}: {done}")
            if time.monotonic() > deadline:
                break
    text = report(ledgers[0].table, limits, methods, space, arguments.out, samples, arguments.finalists)
    text += "".join(f"\nRefused: {reason}.\n" for reason in refused.values())
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
