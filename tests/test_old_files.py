"""What an earlier version wrote is read by this one: a run folder, its plans, its packed file.

Written at commit 80de789 by ``bitsearch run --space tiny.toml --budget 8x --target power_of_two --budget memory=2KiB``
and ``bitsearch deploy``, but for the page, which is written anew.
"""

import shutil
from pathlib import Path

import pytest
import torch
from boundaries import undecided

import bitsearch
from bitsearch.deploy.verify import verify
from bitsearch.renamed import RENAMED
from bitsearch.runs.select import select_plan

FIXTURE = Path(__file__).parent / "fixtures" / "run-before-rooms"
OLD_NAMES = "settings by old names"
pytestmark = pytest.mark.filterwarnings(f"ignore:.*{OLD_NAMES}:FutureWarning")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "run")
    return bitsearch.RunFolder.open(tmp_path / "run")


def test_a_plan_is_read_and_written_alike():
    plan = bitsearch.BitPlan.load(FIXTURE / "plan.json")
    assert plan.to_json() == (FIXTURE / "plan.json").read_text(encoding="utf-8")


def test_the_settings_say_whose_a_budget_is(folder):
    assert [
        (budget.metric, budget.requested, budget.limit, budget.of_target) for budget in folder.settings.budgets
    ] == [
        ("bit_budget", "8x", 8.0, False),
        ("weight_memory", "2KiB", 2048.0, False),
        ("weight_memory", "target power_of_two", 65536.0, True),
        ("working_memory", "target power_of_two", 49152.0, True),
    ]


def test_the_settings_are_written_by_the_names_of_today(folder):
    with pytest.warns(FutureWarning, match=OLD_NAMES) as records:
        settings = folder.settings
    (told,) = records
    before = folder.settings_file.read_text(encoding="utf-8")
    for old, new in RENAMED.items():
        assert (f"\n{old} = " in before) == (f"{old} is now {new}" in str(told.message))
    folder.write_settings(settings)
    text = folder.settings_file.read_text(encoding="utf-8")
    assert not any(f"\n{old} = " in text for old in set(RENAMED) - {"granularity", "temperature_rate"})
    assert bitsearch.RunFolder.open(folder.path).settings == settings
    # Its trials were all at the budget, and stay so.
    assert settings.space.search.front_share == 0.0


def test_a_run_folder_opens_and_its_networks_are_rebuilt(folder):
    plans = folder.plans()
    assert [plan.provenance.trial for plan in plans] == [0, 1]
    assert select_plan(folder) == folder.chosen() == bitsearch.BitPlan.load(FIXTURE / "plan.json")
    for plan in plans:
        file = folder.plan_file(plan.provenance.trial)
        measured = bitsearch.evaluate_plan(file, split="validation")
        # Samples near a rounding boundary may be beyond it by another processor's sums.
        assert round(360 * abs(measured - plan.accuracy.validation)) <= undecided(file)
    assert bitsearch.write_report(folder).is_file()


def test_a_finished_run_goes_on_and_finds_nothing_to_do(folder):
    settings, log = folder.settings, folder.log()
    asked = ["8x", "memory=2KiB"]
    result = bitsearch.search(settings.space, asked, target="power_of_two", trials=1, out=folder.path)
    assert folder.log() == log
    assert result.best == folder.chosen()


def test_a_packed_file_is_read_and_replays_its_network(folder):
    packed = bitsearch.read(FIXTURE / "plan.packed")
    assert packed.plan == folder.chosen()
    network, task = bitsearch.rebuild(folder.plan_file(packed.plan.provenance.trial))
    found = verify(packed, network, task.examples, task.splits.validation, 64)
    assert found.equal
    assert torch.is_tensor(packed.replay()(task.examples))
