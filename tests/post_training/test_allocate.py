"""`bitsearch allocate`: one scoring, plans for several budgets, and a run folder that every other command takes."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

import bitsearch
from bitsearch.allocation.loss_model import EVEN_PRICES, predicted_loss
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.errors import InputError
from bitsearch.layers.weights import load_weights
from bitsearch.post_training.run import allocate
from bitsearch.post_training.scores import ScoredLoss, read_scores
from bitsearch.report import write_report
from bitsearch.runs.folder import RunFolder
from bitsearch.study.run import search
from bitsearch.train.task import load_task

pytestmark = pytest.mark.training


def test_every_budget_has_a_plan_and_a_uniform_one_calibrated_alike(allocated):
    folder = allocated.folder
    plans = {plan.provenance.trial: plan for plan in folder.plans()}
    assert list(plans) == [0, 1, 2, 3]
    assert [plan.provenance.method for plan in plans.values()] == ["sensitivity", "uniform"] * 2
    loose, tight = folder.settings.sweep
    assert all(plans[trial].costs["s_ace"] <= loose.limit for trial in (0, 1))
    assert all(plans[trial].costs["s_ace"] <= tight.limit for trial in (2, 3))
    steps = [event["steps"] for event in folder.log() if event["event"] == "calibrated"]
    # At 2x, plans come so near to full precision that nothing is reconstructed.
    names = ["step sizes", "batch norm", "biases", "reconstruction"]
    assert [[step["name"] for step in trial] for trial in steps] == [names[:3]] * 2 + [names] * 2
    assert [stop.requested for stop in folder.settings.sweep] == ["2x", "6x"]
    assert {path.name for path in folder.path.glob("plan*.json")} == {"plan.json", "plan-2x.json", "plan-6x.json"}
    assert allocated.verdict.rival is not None
    assert "4 plans calibrated" in write_report(folder).read_text(encoding="utf-8")


def test_a_plan_has_the_least_predicted_loss_within_its_budget(allocated):
    task = load_task(allocated.folder.settings.space, device="cpu")
    loss, budgets = ScoredLoss(read_scores(allocated.folder)), allocated.folder.settings.sweep
    for stop, trial in zip(budgets, (0, 2), strict=True):
        best = predicted_loss(loss, allocated.folder.plan(trial).layers, task.rules, EVEN_PRICES)
        for bits in uniform_plans(task.model, task.rules, [stop], 100, weight_tolerance=1.0):
            uniform = task.rules.nearest(task.model, bits, granularity="layer")
            assert best <= predicted_loss(loss, uniform, task.rules, EVEN_PRICES) * (1 + 1e-6)


def test_its_plans_are_what_their_files_say(allocated):
    for plan in allocated.folder.plans():
        path = allocated.folder.plan_file(plan.provenance.trial)
        assert bitsearch.evaluate_plan(path, split="validation") == plan.accuracy.validation


def test_the_same_call_ends_in_the_same_files_and_one_that_was_cut_off_goes_on(allocated, tiny_space, quick, tmp_path):
    path = shutil.copytree(allocated.folder.path, tmp_path / "run")
    for name in ("trial-0001", "trial-0003"):
        (path / "plans" / f"{name}.json").unlink()
        (path / "weights" / f"{name}.safetensors").unlink()
    (path / "plan.json").unlink()
    quick(tiny_space, budgets="2x,6x", out=path)
    for file in [*(allocated.folder.path / "plans").iterdir(), allocated.folder.scores_file]:
        again = path / file.relative_to(allocated.folder.path)
        assert json.loads(again.read_text()) == json.loads(file.read_text())
    for file in (allocated.folder.path / "weights").iterdir():
        one, other = load_file(file), load_file(path / "weights" / file.name)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_plans_are_trained_on(allocated, tiny_space, quick, tmp_path):
    path = tmp_path / "run"
    result = quick(tiny_space, budgets="6x", out=path, fine_tune=1)
    plans = result.folder.plans()
    assert [(plan.provenance.trial, plan.provenance.method) for plan in plans] == [
        (0, "sensitivity"),
        (1, "uniform"),
        (2, "sensitivity"),
        (3, "uniform"),
    ]
    assert [plans[2].layers, plans[3].layers] == [plans[0].layers, plans[1].layers]
    before, after = (load_file(result.folder.weights_file(trial))["conv2.weight"] for trial in (0, 2))
    assert not torch.equal(before, after)
    assert [event["phase"] for event in result.folder.log() if event["event"] == "epoch" and event["trial"] == 2] == [
        "fine-tune"
    ]


def test_a_trained_network_of_ones_own_is_left_as_it_is(network, splits, quick, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = (splits.train, splits.validation, splits.test)
    result = quick(network, data, "4x", out=tmp_path / "run")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert result.folder.settings.full_precision.validation == pytest.approx(
        float((network.eval()(splits.validation.tensors[0]).argmax(1) == splits.validation.tensors[1]).float().mean())
    )
    quantized = result.network()
    load_weights(quantized, result.folder.weights_file(result.best.provenance.trial))
    assert result.evaluate(splits.validation) == result.best.accuracy.validation


def test_a_plan_that_falls_apart_is_warned_of_with_its_figure(tiny_space, tmp_path):
    with pytest.warns(UserWarning, match=r"allocate: at 6x the best plan has .*\s% accuracy on validation, full prec"):
        allocate(tiny_space, budgets="s_ace=6x", samples=16, iterations=0, out=tmp_path / "run")


def test_a_budget_on_spikes_is_met_as_they_are_counted(tiny_space, quick, tmp_path):
    result = quick(tiny_space, budgets="ns_ace=200000", out=tmp_path / "run")
    for plan in result.folder.plans():
        assert plan.costs["ns_ace"] <= result.folder.settings.budgets[0].limit


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"samples": 8}, "samples is 8; calibration takes at least 16"),
        ({"samples": 5000}, "there are 1077 for training"),
        ({"budgets": "4x,4x"}, "each once"),
        ({"budgets": "4y"}, "4y"),
        ({"calibration": torch.zeros(4, 1, 8, 8)}, "a search space has its own"),
        ({"budgets": "100000x"}, "smallest feasible"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(options, line, tiny_space, tmp_path):
    with pytest.raises(InputError, match=line) as caught:
        allocate(tiny_space, out=tmp_path / "run", **{"metric": "s_ace", "budgets": "2x", **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_run_is_not_gone_on_with(allocated, finished_run, tiny_space, tmp_path):
    path = shutil.copytree(allocated.folder.path, tmp_path / "run")
    with pytest.raises(InputError, match="another calibration: samples is 64, not 128"):
        allocate(tiny_space, budgets="2x,6x", metric="s_ace", samples=128, iterations=3, out=path)
    with pytest.raises(InputError, match="no study to go on with"):
        search(tiny_space.with_method("sensitivity"), metric="s_ace", sweep="2x,6x", out=path)
    with pytest.raises(InputError, match="holds no scores"):
        read_scores(finished_run.folder)
    file = RunFolder(path).scores_file
    file.write_text(re.sub(r'"binning":', '"bining":', file.read_text(), count=1))
    with pytest.raises(InputError, match=r"scores\.json: .*binning"):
        read_scores(RunFolder(path))
