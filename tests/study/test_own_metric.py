"""A search under a budget on a metric of the user's own, and its page without the user's code."""

import sys
from types import ModuleType

import pytest

from bitsearch.cost import METRICS
from bitsearch.declared_metric import DeclaredMetric
from bitsearch.errors import InputError
from bitsearch.report import write_report
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.rebuild import evaluate_plan
from bitsearch.study.run import search

pytestmark = pytest.mark.training


@pytest.fixture
def own_costs(monkeypatch):
    module = ModuleType("ownchip")
    module.area = lambda geometry, bits: geometry.macs / 64 * (3.5 * bits.weights * bits.spikes + 12)
    monkeypatch.setitem(sys.modules, "ownchip", module)
    before = dict(METRICS)
    yield module
    METRICS.clear()
    METRICS.update(before)


def test_the_budget_is_met_and_the_page_names_it(own_costs, tiny_space, tmp_path, monkeypatch):
    metric = DeclaredMetric(function="ownchip:area", unit="um2", description="Area of multipliers.")
    training = tiny_space.training.model_copy(update={"epochs": 1, "full_precision_epochs": 1})
    outer = tiny_space.search.model_copy(update={"uniform_trials": 1, "front_share": 0.0})
    space = tiny_space.model_copy(update={"metrics": {"multipliers": metric}, "training": training, "search": outer})
    result = search(space, "multipliers=2x", trials=1, out=tmp_path / "run")
    (outcome,) = result.best.budget
    assert outcome.metric == "multipliers"
    assert outcome.achieved <= outcome.limit
    assert result.best.costs["multipliers"] == outcome.achieved
    for limits in ({"budget": "2x", "objective": "multipliers"}, {"max_drop": 50, "minimize": "multipliers"}):
        with pytest.raises(InputError, match="multipliers is a search space's own function, which is not run here"):
            search(tiny_space, **limits, out=tmp_path / "another")
    assert not (tmp_path / "another").exists()
    # Read elsewhere, without the function.
    del METRICS["multipliers"]
    monkeypatch.delitem(sys.modules, "ownchip")
    page = write_report(RunFolder.open(result.folder.path)).read_text(encoding="utf-8")
    assert "Area of multipliers." in page
    assert "um2" in page
    with pytest.raises(InputError, match=r"cost metric 'ownchip:area'.*add --trust"):
        evaluate_plan(result.folder.chosen_file, split="validation")
