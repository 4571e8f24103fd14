"""Ask and tell: trials that other code trains."""

import pytest
import torch
from bars import bars, loaders, network, parts
from torch import nn

import bitsearch
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.study.own_study import Study

pytestmark = pytest.mark.training
STEPS = 24


def opened(trained, out, **options):
    return Study(trained, loaders(), **{"budget": "4x", "steps": STEPS, "trials": 1, "out": out} | options)


def train(trial, optimizer=torch.optim.Adam, rate=2e-3, steps=STEPS):
    """As anybody would: no word of bits but penalty and freeze."""
    inputs, labels = parts()[0].tensors
    for phase in range(2):
        made = optimizer(trial.network.parameter_groups(rate), **({"lr": rate} if optimizer is torch.optim.SGD else {}))
        trial.network.watch(made)
        for _ in range(steps):
            loss = nn.functional.cross_entropy(trial.network(inputs), labels) + trial.penalty()
            made.zero_grad()
            loss.backward()
            made.step()
        if phase == 0:
            trial.freeze()


@pytest.fixture(scope="module")
def told(trained, tmp_path_factory):
    """A study of which every trial was trained and told; (result, labels)."""
    out, labels = tmp_path_factory.mktemp("runs") / "run", []
    with opened(trained, out) as study:
        for trial in study:
            labels.append((trial.label, trial.is_frozen))
            train(trial)
            study.tell(trial)
        return study.result(), labels


def test_the_front_knows_how_far_scores_are_known(tmp_path):
    with opened(network(), tmp_path / "run") as study:
        front, share = study._prepared.study_plan.front, study.folder.settings.full_precision.validation
    assert front.most == share < 1
    assert front.error == pytest.approx((share * (1 - share) / (48 - 1)) ** 0.5)


def test_as_many_trials_search_as_were_asked_for(tmp_path):
    with opened(network(), tmp_path / "run", trials=6) as study:
        assert study._prepared.study_plan.searched == 6


def test_searching_trials_and_uniform_baselines_take_turns(told):
    result, labels = told
    methods = [plan.provenance.method for plan in result.folder.plans()]
    assert methods[:2] == ["adaptive", "uniform"]
    assert methods.count("adaptive") == 1
    assert [frozen for _, frozen in labels] == [method == "uniform" for method in methods]
    assert labels[0][0] == "trial 0, adaptive"


def test_every_plan_meets_the_budget_exactly_and_is_measured_as_any_other(told):
    result, _ = told
    assert result.folder.plans()[0].met
    for plan in result.folder.plans():
        # Uniform plans stand along the whole front.
        assert plan.met == (plan.costs["bit_budget"] <= 16)
        assert result.evaluate(loaders()[1], plan.provenance.trial) == plan.accuracy.validation
    assert result.best.accuracy.test == result.evaluate(loaders()[2])
    assert result.verdict.rival is not None
    assert bitsearch.BitPlan.load(result.folder.chosen_file) == result.best


def test_the_page_is_that_of_a_run(told):
    page = bitsearch.write_report(told[0].folder).read_text(encoding="utf-8")
    assert "bitsearch.Study(network, data, budget=" in page


def test_bits_move_by_the_curvature_that_hooks_measure(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        trial = study.ask()
        inputs, labels = parts()[0].tensors
        before = dict(trial.network.layer_plans)
        trial.network.eval()
        trial.network(inputs)
        with torch.no_grad():
            trial.network.train()(inputs)
        # Nothing is measured where nothing is trained, and the budgets alone pull.
        assert not trial._search._measured
        trial.penalty().backward()
        trial.network.zero_grad()
        logits = trial.network(inputs)
        (nn.functional.cross_entropy(logits, labels) + trial.penalty()).backward()
        assert trial._search._measured
        layer = trial.network.layers["3"]
        signal = trial._search._signal
        assert layer.weight_latent.grad is not None
        assert all(signal.curvature.states[name].weight_fisher is not None for name in trial.network.searched_layers)
        assert trial.network.layer_plans == before


def test_sgd_trains_as_well(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        trial = study.ask()
        train(trial, torch.optim.SGD, 0.01)
        study.tell(trial)
        # Bits are near the budget, and not far below it.
        assert 8 <= study.folder.plans()[0].costs["bit_budget"] <= 16


def test_freezing_is_final_and_keeps_the_optimizer(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        trial = study.ask()
        optimizer = torch.optim.Adam(trial.network.parameter_groups(1e-2))
        plan = trial.freeze()
        assert trial.is_frozen
        assert trial.freeze() == plan == trial.network.layer_plans
        assert trial.penalty() == 0
        weight = trial.network.layers["3"].weight.detach().clone()
        inputs, labels = parts()[0].tensors
        nn.functional.cross_entropy(trial.network(inputs), labels).backward()
        optimizer.step()
        assert not torch.equal(weight, trial.network.layers["3"].weight)
        assert trial.network.layer_plans == plan


def test_a_study_that_was_left_goes_on_with_the_open_trial(trained, tmp_path, told):
    study = opened(trained, tmp_path / "run")
    first = study.ask()
    number = first.number
    with pytest.raises(InputError, match="another process is running the search"):
        opened(trained, tmp_path / "run")
    study.close()
    with opened(trained, tmp_path / "run") as again:
        assert again.ask().number == number
    with opened(trained, tmp_path / "run") as again:
        for trial in again:
            train(trial)
            again.tell(trial)
        assert [plan.layers for plan in again.folder.plans()] == [plan.layers for plan in told[0].folder.plans()]
        assert again.ask() is None
    with pytest.raises(InputError, match=r"trained by code of its own; bitsearch\.Study goes on with them"):
        bitsearch.search(trained, loaders(), budget="4x", method="adaptive", trials=1, out=tmp_path / "run")


def test_a_score_of_ones_own_counts(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        trial = study.ask()
        trial.freeze()
        assert study.tell(trial, score=0.25).accuracy.validation == 0.25
        assert study.folder.plans()[0].accuracy.validation == 0.25


def test_a_trial_that_is_failed_is_recorded_and_left_out(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        study.fail(study.ask(), "nan in\nstep 3")
        assert study.folder.plans() == []
        (event,) = [event for event in study.folder.log() if event["event"] == "failed"]
        assert event["reason"] == "nan in step 3"
        uniform = study.ask()
        assert uniform.is_frozen
        study.tell(uniform)
        assert study.result().best.provenance.method == "uniform"


def test_a_goal_is_narrowed_for_as_in_a_run(trained, tmp_path):
    with opened(trained, tmp_path / "run", budget=None, max_drop=50, trials=2) as study:
        first = study.ask()
        train(first, steps=8)
        study.tell(first)
        aimed = [first.budgets[0].limit]
        for trial in study:
            if not trial.is_frozen:
                aimed.append(trial.budgets[0].limit)
                trial.freeze()
            study.tell(trial)
        assert aimed[1] < aimed[0]


def test_what_is_told_wrongly_is_one_line(trained, tmp_path):
    with opened(trained, tmp_path / "run") as study:
        trial = study.ask()
        with pytest.raises(InputError, match="trial 0, adaptive is still open; tell it, or fail it"):
            study.ask()
        with pytest.raises(InputError, match=r"is not frozen; call freeze\(\) at the end of the search phase"):
            study.tell(trial)
        trial.freeze()
        for score in (float("nan"), -0.1, 98.0, "0.9", [0.5, 0.5], torch.rand(2)):
            with pytest.raises(InputError, match="give a share from 0 to 1"):
                study.tell(trial, score)
        for other in (None, 0):
            with pytest.raises(InputError, match=rf"trial is {other}; give what ask\(\) returned"):
                study.tell(other)
        assert study.tell(trial, torch.tensor(0.5)).accuracy.validation == 0.5
        with pytest.raises(InputError, match=r"trial is None; give what ask\(\) returned"):
            study.fail(None, "lost")
        with pytest.raises(InputError, match="is not the open trial; tell each once"):
            study.tell(trial, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "digits_cnn"}, "network is str; give a torch module"),
        ({"steps": 0}, "steps is 0; give a whole number from 1"),
        ({"budget": None}, "a network comes with its data and a budget"),
        ({"data": (bars(9, 0),)}, "data is tuple of 1"),
        ({"budget": "100x"}, "is infeasible"),
    ],
)
def test_what_cannot_be_studied_is_one_line_and_nothing_is_written(change, said, tmp_path):
    arguments = {"network": network(), "data": loaders(), "budget": "4x", "out": tmp_path / "run"} | change
    with pytest.raises(InputError, match=said):
        Study(arguments.pop("network"), arguments.pop("data"), **arguments)
    assert not (tmp_path / "run").exists()


def test_a_uniform_trials_bits_are_those_that_it_names(told):
    for plan in told[0].uniform:
        searched = list(plan.layers.values())[1:]
        bits = {(layer.weight_bits, layer.spike_bits, layer.time_steps) for layer in searched}
        assert len(bits) == 1
    assert RunFolder.open(told[0].folder.path).settings.own_training
    assert UniformBits.parse("8/4/2") == told[0].folder.settings.space.baseline


def test_a_study_keeps_to_layer_rules_ties_and_a_choice_of_neuron(trained, tmp_path):
    rules = {"layers": ["3:weight_bits=2"], "ties": ["streams"], "neuron": {"reset": "zero"}}
    with opened(trained, tmp_path / "run", **rules) as study:
        trial = study.ask()
        layer = trial.freeze()["3"]
        assert (layer.weight_bits, layer.neuron.reset) == (2, "zero")
    assert RunFolder(tmp_path / "run").settings.space.neuron.reset == "zero"
    assert [str(rule) for rule in RunFolder(tmp_path / "run").settings.space.layers] == ["'3'"]
    assert [tie.share for tie in RunFolder(tmp_path / "run").settings.space.ties] == ["streams"]
