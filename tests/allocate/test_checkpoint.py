import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitsearch.allocate.adaptive import allocate_adaptively
from bitsearch.allocate.checkpoint import Checkpoint, RandomState, read_state, write_state
from bitsearch.allocate.trainer import train
from bitsearch.allocate.uniform import train_fixed
from bitsearch.cost import CostModel, Rules, parse_budgets, trace
from bitsearch.errors import InputError, StorageError
from bitsearch.plan import DRAFT
from bitsearch.space import Allocation, Training

PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.integers())


@settings(max_examples=20, deadline=None)
@given(
    state=st.dictionaries(
        st.text(),
        st.recursive(
            PLAIN,
            lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
            max_leaves=8,
        ),
    )
)
def test_plain_state_comes_back_as_written(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    write_state(path, state)
    assert read_state(path) == state


def test_tensors_come_back_bit_by_bit_with_their_types_and_shared_memory_is_no_hindrance(tmp_path):
    values = torch.tensor([0.1, -0.0, math.inf, math.nan])
    tensors = [values, values[:2], values.bool(), values.to(torch.bfloat16), torch.get_rng_state(), torch.tensor(7)]
    write_state(tmp_path / "state", {"tensors": tensors, "by": {(0, (3, 2)): values.long()}})
    found = read_state(tmp_path / "state")
    assert [tensor.dtype for tensor in found["tensors"]] == [tensor.dtype for tensor in tensors]
    for was, now in zip(tensors, found["tensors"], strict=True):
        torch.testing.assert_close(now, was, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found["by"][0, (3, 2)], values.long())


def test_what_no_file_can_hold_is_refused_and_the_file_before_stays(tmp_path):
    write_state(tmp_path / "state", {"epoch": 1})
    with pytest.raises(TypeError, match="holds a object"):
        write_state(tmp_path / "state", {"epoch": object()})
    assert read_state(tmp_path / "state") == {"epoch": 1}


def test_a_folder_that_is_not_there_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*state: No such file"):
        write_state(tmp_path / "missing" / "state", {})
    assert list(tmp_path.rglob(f"{DRAFT}*")) == []


@pytest.mark.parametrize("left", [0, 1, 8, 100])
def test_half_a_file_is_no_checkpoint(left, tmp_path):
    path = tmp_path / "state"
    write_state(path, {"phase": 0, "epoch": 1, "parts": {"a": torch.ones(100)}})
    path.write_bytes(path.read_bytes()[:left])
    assert Checkpoint(path).saved_phase == -1


def test_every_global_generator_goes_on_from_where_it_was():
    import random

    import numpy as np

    state = RandomState(3)
    draw = lambda: (random.random(), float(np.random.rand()), float(torch.rand(1)))  # noqa: E731, NPY002
    draw()
    saved = state.state_dict()
    drawn = draw()
    state.load_state_dict(saved)
    assert draw() == drawn


class _KilledError(Exception):
    pass


def interrupted_everywhere(path, attempt):
    """The result of ``attempt(checkpoint)`` when every save is the last before a kill, and the number of saves."""
    saves = 0

    def kill():
        nonlocal saves
        saves += 1
        raise _KilledError

    while True:
        try:
            return attempt(Checkpoint(path, kill)), saves
        except _KilledError:
            # Another process has other random numbers.
            torch.manual_seed(saves)


def with_dropout(network):
    return nn.Sequential(*list(network)[:-1], nn.Dropout(0.2), network[-1])


def test_full_precision_interrupted_after_every_epoch_ends_with_the_same_weights(fresh_network, splits, tmp_path):
    training = Training(batch_size=32)

    def attempt(checkpoint):
        network = with_dropout(fresh_network())
        train(network, splits, training, epochs=4, seed=0, phase="full precision", checkpoint=checkpoint)
        return network.state_dict()

    undisturbed = attempt(None)
    resumed, saves = interrupted_everywhere(tmp_path / "checkpoint", attempt)
    assert saves == 4
    for name, value in undisturbed.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.parametrize(
    ("budget", "knobs"),
    [("4x", {"estimator": "straight_through", "renewal_epochs": 1}), ("ns_ace=2e4", {"probe_every": 3})],
)
def test_a_search_interrupted_after_every_epoch_ends_with_the_same_network(
    budget, knobs, network, splits, space, tmp_path
):
    network = with_dropout(network)
    model = CostModel(trace(network, splits.train.tensors[0][:32]))
    rules = Rules.make(model, space.choices, space.first_layer)
    budgets = parse_budgets([budget], "bit_budget", model, space.baseline)
    records = {"undisturbed": [], "resumed": []}

    def attempt(checkpoint, kind="resumed"):
        return allocate_adaptively(
            copy.deepcopy(network),
            model,
            rules,
            splits,
            space,
            Allocation(**knobs),
            budgets,
            seed=0,
            on_epoch=records[kind].append,
            checkpoint=checkpoint,
        )

    undisturbed = attempt(None, "undisturbed")
    resumed, saves = interrupted_everywhere(tmp_path / "checkpoint", attempt)
    # Correcting a budget that depends on firing adds phases.
    assert saves > 4 if budget != "4x" else saves == 4
    assert records["resumed"] == records["undisturbed"]
    assert resumed.layer_plans == undisturbed.layer_plans
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_uniform_plan_interrupted_ends_with_the_same_network(network, model, rules, splits, space, tmp_path):
    plan = rules.nearest(model, space.baseline, granularity="layer")

    def attempt(checkpoint):
        fixed = train_fixed(network, model, rules, plan, splits, space, seed=0, checkpoint=checkpoint)
        return fixed.state_dict()

    undisturbed = attempt(None)
    resumed, saves = interrupted_everywhere(tmp_path / "checkpoint", attempt)
    assert saves == 4
    for name, value in undisturbed.items():
        assert torch.equal(resumed[name], value), name


def test_a_training_that_diverges_says_when(fresh_network, splits):
    broken = fresh_network()
    with torch.no_grad():
        broken[0].weight[0] = math.nan
    with pytest.raises(InputError, match=r"loss is nan in epoch 1 of 2 \(full precision\); lower"):
        train(broken, splits, Training(batch_size=32), epochs=2, seed=0, phase="full precision")
