import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.study.front import TARGET
from bitsearch.study.run import search
from bitsearch.study.study import BASELINE, INTERMEDIATE, INTERMEDIATE_OF, ROLE, finished_trials, load_study
from bitsearch.study.warm_start import START, load_start, nearest_start, start_network
from bitsearch.train.task import load_task


def finished(cost, **attributes):
    return create_trial(values=[0.9, cost], user_attrs=attributes)


def test_a_trial_goes_on_from_the_nearest_one_that_costs_at_least_as_much():
    trials = [finished(2.0), finished(3.9), finished(5.0), finished(4.5), create_trial(state=TrialState.RUNNING)]
    assert nearest_start(trials, 4.0) is trials[3]
    assert nearest_start(trials, 5.0) is trials[2]
    assert nearest_start(trials, 6.0) is trials[2]
    assert nearest_start(trials[4:], 4.0) is None


def test_what_a_trial_left_on_its_way_starts_none():
    part = finished(4.0, **{INTERMEDIATE_OF: 0, INTERMEDIATE: 0})
    assert nearest_start([part], 4.0) is None


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8), st.floats(0.1, 100))
def test_none_is_nearer(costs, target):
    start = nearest_start([finished(cost) for cost in costs], target).values[1]
    dearer = [cost for cost in costs if cost >= target]
    assert start == (min(dearer) if dearer else max(costs))


def test_a_float_network_takes_what_it_knows_of_a_quantized_one(tiny_space):
    task = load_task(tiny_space, device="cpu")
    torch.manual_seed(0)
    network = task.fresh_network()
    plan = task.rules.nearest(task.model, UniformBits(weight_bits=2, spike_bits=2, time_steps=1), granularity="layer")
    quantized = convert(task.fresh_network(), plan)
    with torch.no_grad():
        for parameter in quantized.parameters():
            parameter.add_(0.25)
    state = quantized.state_dict()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    started = start_network(network, state).state_dict()
    assert set(started) <= set(state)
    assert all(torch.equal(value, state[name]) for name, value in started.items())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_tensors_of_another_shape_stay_as_they_are():
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    started = start_network(network, {"weight": torch.ones(3, 3), "bias": torch.ones(1), "other": torch.ones(1)})
    assert torch.equal(started.weight, before)
    assert started.bias.item() == 1


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm])
def test_a_reparametrized_weight_is_taken_as_well(norm):
    network = torch.nn.Sequential(norm(torch.nn.Linear(3, 2)))
    network(torch.ones(1, 3))
    weight = torch.arange(6.0).reshape(2, 3)
    started = start_network(network, {"0.weight": weight, "0.bias": torch.ones(2)})
    assert torch.equal(started(torch.eye(3)), weight.T + 1)
    assert not torch.equal(network(torch.eye(3)), weight.T + 1)


def test_weights_that_are_gone_are_named(tmp_path):
    start = finished(1.0)
    start.number = 0
    with pytest.raises(InputError, match=r"trial-0000\.safetensors is missing, which a trial goes on from"):
        load_start(RunFolder(tmp_path), start, None, None)


@pytest.fixture(scope="module")
def folder(tiny_space, tmp_path_factory):
    """Of a run whose trials along the front take half the epochs of the others, so that there are twice as many."""
    training = tiny_space.training.model_copy(update={"epochs": 2, "full_precision_epochs": 1})
    changes = {"front_share": 0.5, "front_epochs": 1, "uniform_trials": 2}
    settings = tiny_space.search.model_copy(update=changes)
    space = tiny_space.model_copy(update={"training": training, "search": settings})
    return search(space, "8x", trials=2, out=tmp_path_factory.mktemp("runs") / "run").folder


def test_short_trials_go_on_from_others_and_say_from_which(folder):
    trials = finished_trials(folder)
    searching = [trial for trial in trials if trial.user_attrs[ROLE] != BASELINE]
    short = [trial for trial in searching if START in trial.user_attrs]
    assert (len(searching), len(short)) == (3, 2)
    costs = {trial.number: trial.values[1] for trial in trials}
    for trial in short:
        earlier = [number for number in costs if number < trial.number]
        target = trial.params[TARGET]
        dearer = [number for number in earlier if costs[number] >= target] or earlier
        nearest = min(dearer, key=lambda number: abs(math.log(costs[number] / target)))
        assert trial.user_attrs[START] == nearest
        assert costs[trial.number] <= target
    told = {event["trial"]: event.get("goes_on_from") for event in folder.log() if event["event"] == "started"}
    assert told == {trial.number: trial.user_attrs.get(START) for trial in trials}


def test_short_trials_take_fewer_epochs(folder):
    epochs = {}
    for event in folder.log():
        if event["event"] == "epoch" and event["trial"] is not None:
            epochs[event["trial"]] = epochs.get(event["trial"], 0) + 1
    for trial in load_study(folder).trials:
        assert epochs[trial.number] == (1 if START in trial.user_attrs else 2)


def test_the_cheapest_plan_is_always_trained(folder):
    task = load_task(folder.settings.space, device="cpu")
    least = task.model.cost("bit_budget", task.rules.smallest(task.model))
    assert min(plan.costs["bit_budget"] for plan in folder.plans()) == least
    assert folder.front()[0].costs["bit_budget"] == least
