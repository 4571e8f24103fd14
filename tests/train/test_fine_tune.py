import copy

import pytest
import torch
from learning import guessed
from tolerances import chained

from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation_settings import Allocation
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.quant.uniform import to_levels
from bitsearch.train.evaluate import evaluate
from bitsearch.train.fine_tune import SoftSteps, fine_tune, train_at_plan
from bitsearch.train.loop import Callback
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

TRAINING = Training(batch_size=64, learning_rate=5e-3)
SOFT = Allocation(quantizer={"form": "sigmoid"})


@pytest.fixture
def quantized(network, model, rules, space):
    def make(weight_bits=2, granularity="layer"):
        bits = UniformBits(weight_bits=weight_bits, spike_bits=3, time_steps=1)
        plan = rules.nearest(model, bits, granularity=granularity)
        return QuantizedNetwork(convert(network, plan), model, rules, space.baseline)

    return make


def tuned(quantized, splits, settings=SOFT, epochs=3, on_epoch=None):
    session = TrainingSession(splits, TRAINING, on_epoch=on_epoch)
    fine_tune(quantized, session, settings, epochs=epochs, seed=0, phase="fine-tune")
    return quantized


@pytest.mark.parametrize("weight_bits", [1, 2, 3])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_what_is_left_is_an_ordinary_layer_with_the_hard_accuracy(quantized, splits, weight_bits, granularity):
    records = []
    network = tuned(quantized(weight_bits, granularity), splits, on_epoch=records.append)
    assert evaluate(network, splits.validation, 64) == records[-1].validation_score
    assert network.soft_accuracy == records[-1].measures["soft_accuracy"]
    assert [record.measures["temperature"] for record in records] == [10, 20, 30]
    for layer in network.layers.values():
        assert layer.soft_weights is None
        # The weights are on the grid already: quantizing them again changes nothing.
        again = to_levels(layer.weight, layer.weight_step, layer.weight_bits, signed=True).codes * layer.weight_step
        assert torch.allclose(again, layer.weight, **chained(4))
    assert not [name for name in network.state_dict() if "soft" in name]


def test_training_learns(quantized, splits):
    before = quantized(2)
    soft = SoftSteps(before, TrainingSession(splits, TRAINING), SOFT)
    start = soft.accuracy()
    network = tuned(quantized(2), splits, epochs=5)
    assert network.soft_accuracy > start
    assert evaluate(network, splits.validation, 64) > guessed(100, 10)


def test_soft_and_hard_differ_in_evaluation_only_when_asked(quantized, splits):
    network = quantized(3)
    soft = SoftSteps(network, TrainingSession(splits, TRAINING), SOFT)
    layer = network.layers["3"]
    network.eval()
    hard = layer.quantized_weight()
    codes = hard / layer.soft_weights.log_alpha.exp()
    assert torch.allclose(codes, codes.round(), **chained(4))
    network.train()
    assert not torch.allclose(layer.quantized_weight(), hard)
    mode = copy.deepcopy(layer.soft_weights.soft_in_evaluation)
    soft.accuracy()
    assert layer.soft_weights.soft_in_evaluation == mode is False


def test_levels_stay_within_the_largest(quantized, splits):
    network = tuned(quantized(4), splits, Allocation(quantizer={"form": "sigmoid", "max_level": 4}), epochs=1)
    for name in network.rules.searched:
        layer = network.layers[name]
        codes = (layer.weight / layer.weight_step).round()
        assert codes.abs().max() <= 4
        assert layer.layer_plan.weight_bits == 4


def test_the_uniform_quantizer_measures_nothing_soft(quantized, splits):
    network = tuned(quantized(2), splits, Allocation(), epochs=1)
    assert network.soft_accuracy is None


def test_a_plan_is_trained_for_all_epochs_and_kept(quantized, rules, model, splits):
    plan = rules.nearest(model, UniformBits(weight_bits=3, spike_bits=2, time_steps=2), granularity="layer")
    records = []
    session = TrainingSession(splits, TRAINING, on_epoch=records.append)
    network = quantized(2)
    found = train_at_plan(network, plan, session, Allocation(), epochs=4, seed=0, phase="here")
    assert found is network
    assert network.layer_plans == plan
    assert [(record.phase, record.epoch) for record in records] == [("here", epoch) for epoch in (1, 2, 3, 4)]
    assert records[-1].loss < records[0].loss


def test_parts_of_a_method_see_frozen_bits(network, model, rules, space, splits):
    learnable = make_learnable_copy(network, model, rules, space, Allocation())
    plan = learnable.layer_plans

    def parts():
        assert not learnable.searched_layers
        return [part]

    part = Callback()
    part.after_epoch = lambda epoch, loss: {"seen": 1.0}
    records = []
    session = TrainingSession(splits, TRAINING, on_epoch=records.append)
    train_at_plan(learnable, plan, session, Allocation(), epochs=1, seed=0, phase="", callbacks=parts)
    assert records[0].measures == {"seen": 1.0}


@pytest.mark.parametrize("quantizer", ["uniform", "sigmoid"])
def test_without_epochs_bits_are_frozen_and_weights_left(quantized, splits, quantizer):
    network = quantized(2)
    before = {name: layer.weight.clone() for name, layer in network.layers.items()}
    settings = Allocation(quantizer={"form": quantizer})
    train_at_plan(network, network.layer_plans, TrainingSession(splits), settings, epochs=0, seed=0, phase="")
    assert all(torch.equal(layer.weight, before[name]) for name, layer in network.layers.items())
