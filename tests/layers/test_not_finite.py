"""What a quantized layer does when it meets NaN or infinity."""

import copy

import pytest
import torch
from torch import nn

from bitsearch.choices import Choices
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.learnable import quantize as make_learnable
from bitsearch.plan import LayerPlan

WRONG = [float("nan"), float("inf"), -float("inf")]


def searchable_layer(kind, granularity, signed):
    torch.manual_seed(0)
    layer, shape = (nn.Linear(6, 4), (8, 6)) if kind == "linear" else (nn.Conv2d(2, 3, 3), (8, 2, 5, 5))
    plan = LayerPlan(
        weight_bits=3, spike_bits=(3, 3), time_steps=2, granularity=granularity, signed_input=signed, decay=0.5
    )
    return convert(nn.Sequential(layer), {"0": plan}, {"0": Choices()})[0], torch.randn(shape)


def state_of(layer):
    return copy.deepcopy((dict(layer.state_dict()), layer.layer_plan, layer._stale_weight, layer._stale_spikes))


def assert_unchanged(layer, before):
    state, *rest = state_of(layer)
    assert rest == list(before[1:])
    for name, value in before[0].items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("where", ["input", "weight"])
def test_the_first_batch_is_refused_and_changes_nothing(where, kind, granularity, signed, wrong):
    layer, x = searchable_layer(kind, granularity, signed)
    clean = copy.deepcopy(layer)
    with torch.no_grad():
        (x if where == "input" else layer.weight).view(-1)[3] = wrong
    before = state_of(layer)
    for _ in range(2):
        with pytest.raises(InputError, match="holds NaN or infinity") as caught:
            layer(x)
        assert "\n" not in str(caught.value)
        assert_unchanged(layer, before)
    # A sound batch afterwards is a first batch.
    with torch.no_grad():
        layer.weight.copy_(clean.weight)
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer(x), clean(x))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_batch_that_would_renew_is_refused_and_changes_nothing(wrong):
    layer, x = searchable_layer("linear", "layer", True)
    layer(x)
    layer.round_latents(2.0, [2.0, 4.0], 2.0)
    before = state_of(layer)
    bad = x.clone()
    bad[0, 0] = wrong
    with pytest.raises(InputError, match="holds NaN or infinity"):
        layer(bad)
    assert_unchanged(layer, before)
    layer(x)
    assert layer.weight_step_bits == 2
    assert layer.spike_step_bits.tolist()[:2] == [2, 4]


@pytest.mark.parametrize("wrong", WRONG)
def test_once_steps_are_set_infinity_is_clipped_and_nan_goes_on(wrong):
    layer, x = searchable_layer("linear", "layer", True)
    clean = layer(x)
    x[0, 0] = wrong
    output = layer(x)
    assert output[0].isfinite().all() == (wrong == wrong)
    assert torch.equal(output[1:], clean[1:])


@pytest.mark.parametrize("wrong", WRONG)
def test_a_whole_network_says_it_at_its_first_layer(wrong):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    images = torch.randn(8, 1, 8, 8)
    learnable = make_learnable(network, images)
    bad = images.clone()
    bad[1, 0, 2, 2] = wrong
    before = copy.deepcopy(learnable.state_dict())
    with pytest.raises(InputError, match="lower the learning rate, or check the data"):
        learnable(bad)
    for name, value in learnable.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert learnable(images).isfinite().all()
