"""A run folder made up from plausible numbers, costed by the real formulas."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitsearch.cost import Budget, Target
from bitsearch.cost.metric import Bits, Geometry
from bitsearch.cost.metrics import METRICS
from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.run_settings import RunSettings
from bitsearch.score import Accuracy
from bitsearch.space import SearchSpace

MACS = np.array([9216.0, 73728.0, 147456.0, 73728.0, 640.0])
WEIGHTS = np.array([144.0, 4608.0, 9216.0, 18432.0, 640.0])
INPUTS = np.array([64.0, 1024.0, 512.0, 512.0, 64.0])
OUTPUTS = np.array([16.0, 32.0, 32.0, 64.0, 10.0])
RATES = np.array([0.9, 0.45, 0.38, 0.3, 0.52])
GENERIC = Target.load("generic")
NAMES = ("conv1", "conv2", "conv3", "conv4", "classifier")
BUDGETS = (Budget(metric="bit_budget", requested="4x", limit=16.0),)
FULL_PRECISION = Accuracy(validation=0.9889, test=0.9806)
COMMAND = "bitsearch run --budget 4x --seed 0"

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Widths = list[tuple[int, list[int]]]
"""Weight bits and spike bits, step by step, of every layer but the first."""

ADAPTIVE: list[tuple[Widths, float]] = [
    ([(1, [1]), (2, [1]), (1, [1]), (4, [2])], 0.8611),
    ([(2, [1]), (2, [2]), (1, [1]), (4, [2])], 0.9139),
    ([(2, [2]), (2, [2]), (2, [1]), (4, [2])], 0.9417),
    ([(3, [2]), (2, [2]), (2, [2]), (5, [3])], 0.9583),
    ([(3, [2, 1]), (3, [2]), (2, [2]), (5, [3])], 0.9694),
    ([(3, [3]), (3, [3]), (2, [2]), (6, [4])], 0.9722),
    ([(4, [3, 2]), (3, [2]), (3, [2]), (6, [4])], 0.9778),
    ([(3, [4]), (4, [4]), (3, [3]), (6, [5])], 0.9806),
    ([(4, [4]), (4, [4]), (3, [3]), (6, [5])], 0.9833),
    ([(4, [4, 3]), (3, [3]), (2, [3, 2]), (6, [4, 3])], 0.9861),
    ([(5, [2, 1]), (3, [2, 2]), (3, [2]), (5, [3])], 0.9722),
    ([(2, [5]), (3, [4]), (4, [2]), (3, [4])], 0.9583),
    ([(5, [4, 3]), (4, [3, 2]), (4, [3]), (6, [5])], 0.9861),
    ([(6, [4, 3]), (5, [4, 3]), (4, [3, 3]), (7, [5])], 0.9889),
]
CHOSEN_TRIAL = 9
UNIFORM: list[tuple[int, int, int, float]] = [
    (1, 1, 1, 0.7417),
    (2, 1, 1, 0.8306),
    (1, 2, 1, 0.8556),
    (2, 2, 1, 0.9361),
    (3, 2, 1, 0.9472),
    (2, 3, 1, 0.9528),
    (2, 2, 2, 0.9583),
    (3, 3, 1, 0.9667),
    (4, 3, 1, 0.9694),
    (3, 4, 1, 0.9722),
    (4, 4, 1, 0.9778),
    (4, 3, 2, 0.9806),
    (4, 4, 2, 0.9833),
    (8, 4, 2, 0.9861),
]


def costs_of(layers: dict[str, LayerPlan], target: Target = GENERIC, *, counted: bool = True) -> dict[str, float]:
    """Every metric; those that need spike counts only where these are ``counted``."""
    geometry = Geometry(MACS, WEIGHTS, *[INPUTS] * 5, OUTPUTS, np.ones(5), RATES, RATES, target)
    bits = Bits(
        np.array([float(layer.weight_bits) for layer in layers.values()]),
        np.array([layer.mean_spike_bits for layer in layers.values()]),
        np.array([float(layer.time_steps) for layer in layers.values()]),
    )
    return {
        name: float(metric.cost(geometry, bits))
        for name, metric in METRICS.items()
        if metric.available(target) and (counted or not metric.activity(target))
    }


def layers_of(widths: Widths, names: tuple[str, ...] = NAMES) -> dict[str, LayerPlan]:
    rest = (LayerPlan(weight_bits=w, spike_bits=tuple(s), time_steps=len(s)) for w, s in widths)
    first = LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True)
    return dict(zip(names, (first, *rest), strict=True))


def baseline_costs(target: Target = GENERIC) -> dict[str, float]:
    every = LayerPlan(weight_bits=8, spike_bits=(4, 4), time_steps=2)
    return costs_of(dict.fromkeys(NAMES, every), target, counted=False)


def settings_of(target: str = "generic", **changes: object) -> RunSettings:
    hardware = Target.load(target)
    fields = {
        "budgets": BUDGETS,
        "metric": "bit_budget",
        "seed": 0,
        "device": "cpu",
        "threads": 2,
        "command": COMMAND,
        "bitsearch": "0.1.0",
        "torch": "2.11.0",
        "full_precision": FULL_PRECISION,
        "baseline_costs": baseline_costs(hardware),
        "space": SearchSpace.load("digits"),
        "target": hardware,
    }
    return RunSettings.model_validate(fields | changes)


def plan_of(
    settings: RunSettings,
    trial: int,
    widths: Widths,
    validation: float | None,
    method: str = "adaptive",
    test: float | None = None,
    names: tuple[str, ...] = NAMES,
) -> BitPlan:
    layers = layers_of(widths, names)
    costs = costs_of(layers, settings.target)
    outcomes = [
        BudgetOutcome(
            metric=budget.metric,
            requested=budget.requested,
            limit=budget.limit,
            achieved=costs[budget.metric],
            met=costs[budget.metric] <= budget.limit,
        )
        for budget in settings.budgets
    ]
    return BitPlan(
        space=settings.space.name,
        network=settings.space.network,
        target=settings.target.name,
        budget=tuple(outcomes),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs=settings.baseline_costs),
        layers=layers,
        costs=costs,
        accuracy=Accuracy(validation=validation, test=test),
        provenance=Provenance(
            bitsearch="0.1.0", torch="2.11.0", seed=settings.seed, trial=trial, method=method, command=settings.command
        ),
    )


def make_run(path: Path, names: tuple[str, ...] = NAMES, **changes: object) -> RunFolder:
    """28 trials, 14 adaptive ones first; trial 9 is the best within the budget of 16."""
    settings = settings_of(**changes)
    folder = RunFolder(path)
    folder.make()
    folder.write_settings(settings)
    for trial, (widths, validation) in enumerate(ADAPTIVE):
        test = 0.975 if trial == CHOSEN_TRIAL else None
        folder.write_plan(plan_of(settings, trial, widths, validation, test=test, names=names))
    for trial, (w, s, t, validation) in enumerate(UNIFORM, start=len(ADAPTIVE)):
        widths = [(w, [s] * t)] * 4
        plan = plan_of(settings, trial, widths, validation, "uniform", test=validation - 0.011, names=names)
        folder.write_plan(plan)
    for epoch in range(1, 11):
        folder.append_log(search_record(CHOSEN_TRIAL, epoch, settings.metric))
    for epoch in range(11, 21):
        folder.append_log({"trial": CHOSEN_TRIAL, "phase": "fine-tune", "epoch": epoch, "epochs": 20, "measures": {}})
    return folder


def search_record(trial: int, epoch: int, metric: str = "bit_budget") -> dict[str, object]:
    left = np.exp(-epoch / 3)
    means = {
        "mean_weight_bits": 2.9 + 1.5 * left,
        "mean_spike_bits": 3.1 + 1.1 * left,
        "mean_time_steps": 1.7 + 0.4 * left,
    }
    measures = {metric: float(np.prod(list(means.values()))), **means, "penalty_weight": 0.004, "changes": 14.0}
    return {
        "trial": trial,
        "phase": "search",
        "epoch": epoch,
        "epochs": 10,
        "loss": 0.02,
        "validation_accuracy": 0.98,
        "measures": measures,
        # Those of the later epochs are the same.
        "bits": [[8, [8]], [4, [4, 3]], [3, [3]], [2, [3, 2]], [6, [4, 3]]] if epoch == 1 else [],
    }


@pytest.fixture
def two_budgets() -> tuple[Budget, ...]:
    """Of weight memory and S-ACE, and the limits of the target ``power_of_two``."""
    target = "target power_of_two"
    return (
        Budget(metric="weight_memory", requested="24KiB", limit=24 * 1024),
        Budget(metric="s_ace", requested="2x", limit=baseline_costs()["s_ace"] / 2),
        Budget(metric="weight_memory", requested=target, limit=65536, of_target=True),
        Budget(metric="working_memory", requested=target, limit=49152, of_target=True),
    )


@pytest.fixture
def make_run_folder(tmp_path: Path) -> Callable[..., RunFolder]:
    def make(names: tuple[str, ...] = NAMES, **changes: object) -> RunFolder:
        return make_run(tmp_path / "digits-run", names, **changes)

    return make


@pytest.fixture
def make_plan() -> Callable[..., BitPlan]:
    """``plan_of`` above."""
    return plan_of


@pytest.fixture
def make_settings() -> Callable[..., RunSettings]:
    """``settings_of`` above."""
    return settings_of


@pytest.fixture
def make_record() -> Callable[..., dict[str, object]]:
    """``search_record`` above."""
    return search_record


@pytest.fixture
def run_folder(make_run_folder: Callable[..., RunFolder]) -> RunFolder:
    return make_run_folder()


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip(f"NOT TESTED: pages in a browser; none of {', '.join(CHROMIUMS)} is installed")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: pages in a browser; playwright is not installed"
    )
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=executable, args=list(SWITCHES))
        yield started
        started.close()
