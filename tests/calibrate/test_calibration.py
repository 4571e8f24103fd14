"""A calibration: each of its steps against what it is by hand, and what is kept of them."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bitsearch.calibrate import CalibrationSamples, calibrate, calibration_splits
from bitsearch.calibrate.bias import correct_biases
from bitsearch.calibrate.calibration import NEAR, STEPS, held_out_divergence, held_out_spread
from bitsearch.calibrate.reconstruction import distance, reconstruct
from bitsearch.calibrate.statistics import reestimate_batch_norm, renew_steps
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.data import Splits
from bitsearch.data.loaders import LoadedSamples
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.tasks import CLASSIFICATION

SPACE = SearchSpace.load("digits")


def float_network(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    for _ in range(20):
        network(torch.randn(32, 1, 6, 6) + 1)
    return network.eval()


def copy_with(network, bits, images):
    model = CostModel(trace(network, images[:2]))
    rules = AllowedBits.make(model, SPACE.choices, SPACE.first_layer)
    plan = rules.nearest(model, bits, granularity="layer")
    return QuantizedNetwork(convert(network, plan), model, rules, SPACE.baseline).eval()


@pytest.fixture
def images():
    return torch.randn(80, 1, 6, 6, generator=torch.Generator().manual_seed(1)) + 1


@pytest.fixture
def samples(images):
    return CalibrationSamples(images[:64], images[64:], 0, at_once=32)


def coarse(network, images):
    return copy_with(network, UniformBits(weight_bits=2, spike_bits=2, time_steps=1), images)


def test_batch_norms_get_the_statistics_of_what_the_quantized_layer_sends(images, samples):
    network = float_network()
    quantized = coarse(network, images)
    reestimate_batch_norm(quantized, samples)
    convolution, norm = quantized.network[0], quantized.network[1]
    with torch.no_grad():
        parts = [convolution(part).double().movedim(1, 0).flatten(1) for part in images[:64].split(32)]
    means = torch.stack([part.mean(1) for part in parts]).mean(0)
    variances = torch.stack([part.var(1) for part in parts]).mean(0)
    # Sums of 512 terms in float32.
    torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-5)
    assert (norm.training, norm.momentum) == (False, 0.1)


def test_a_corrected_bias_gives_every_output_the_float_networks_mean(images, samples):
    network = float_network()
    quantized = coarse(network, images)
    renew_steps(quantized, samples)
    with torch.no_grad():
        expected = network(samples.fitted).double().mean(0)
        shift = expected - quantized(samples.fitted).double().mean(0)
        bias = quantized.network[4].bias.clone()
        correct_biases(quantized, network, samples)
        mean = quantized(samples.fitted).double().mean(0)
    torch.testing.assert_close((quantized.network[4].bias - bias).double(), shift, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
    assert quantized.network[0].bias is None


def biased_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))


def test_biases_are_corrected_behind_those_before_in_one_pass_and_in_many(images, monkeypatch):
    network = biased_network().eval()
    together, apart = (CalibrationSamples(images[:64], images[64:], 0, at_once) for at_once in (8, 7))
    expected = coarse(network, images)
    renew_steps(expected, together)
    inputs, values = images[:64], {}
    with torch.no_grad():
        # By hand: every layer's mean is moved before the next one's is taken.
        for number in (0, 2, 5):
            layer = expected.network[number]
            difference = network[: number + 1](inputs).double() - expected.network[: number + 1](inputs).double()
            layer.bias += difference.movedim(1, 0).flatten(1).mean(1).float()
            values[number] = layer.bias.clone()
    passes = []
    monkeypatch.setattr("bitsearch.calibrate.bias.run", lambda each, part: passes.append(each) or each(part))
    for samples, count in ((together, 1), (apart, 3 * 10)):
        quantized = coarse(network, images)
        renew_steps(quantized, together)
        passes.clear()
        correct_biases(quantized, network, samples)
        assert sum(each is quantized for each in passes) == count
        for number, bias in values.items():
            # Sums of up to 1,024 terms in float32.
            torch.testing.assert_close(quantized.network[number].bias, bias, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_called_twice_has_a_bias_for_both_calls(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(36, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.second(self.second(self.first(x.flatten(1)).relu()).relu())

    torch.manual_seed(4)
    network = Twice().eval()
    quantized = coarse(network, images)
    samples = CalibrationSamples(images[:64], images[64:], 0, at_once=64)
    renew_steps(quantized, samples)
    before = quantized.network.second.bias.clone()
    correct_biases(quantized, network, samples)
    after = quantized.network.second.bias.clone()
    with torch.no_grad():
        quantized.network.second.bias.copy_(before)
        means = []
        for each in (network, quantized.network):
            first = each.second(each.first(images[:64].flatten(1)).relu())
            means.append((first.double().mean(0) + each.second(first.relu()).double().mean(0)) / 2)
    torch.testing.assert_close((after - before).double(), means[0] - means[1], rtol=1e-4, atol=1e-5)


def test_the_distance_of_layers_is_their_squared_error_over_the_targets_variance():
    target, other = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    # A mean squared error of ½ over a variance of 1; of two calls the mean; other shapes and other calls do not count.
    assert float(distance({"a": [target]}, {"a": [other]})) == 0.5
    assert float(distance({"a": [target, target]}, {"a": [other, target]})) == 0.25
    assert float(distance({"a": [target, target]}, {"a": [other]})) == 0.0
    assert float(distance({"a": [target]}, {"a": [other.T]})) == 0.0


def test_a_reconstruction_brings_a_network_nearer_and_moves_no_weight_by_more_than_a_level(network, splits):
    inputs = splits.train.tensors[0]
    samples = CalibrationSamples(inputs[:192], inputs[192:], 0, at_once=64)
    before_all = {name: value.clone() for name, value in network.eval().state_dict().items()}
    quantized = coarse(network, inputs)
    renew_steps(quantized, samples)
    before = held_out_divergence(quantized, network, samples, CLASSIFICATION)
    scaled = {name: (layer.weight / layer.weight_step).detach() for name, layer in quantized.layers.items()}
    reconstruct(quantized, network, samples, CLASSIFICATION, iterations=60, seed=0)
    assert held_out_divergence(quantized, network, samples, CLASSIFICATION) < 0.7 * before
    for name, layer in quantized.layers.items():
        largest = 2 ** (layer.layer_plan.weight_bits - 1) - 1
        level = (layer.quantized_weight() / layer.weight_step).round()
        assert ((level - scaled[name].clamp(-largest, largest)).abs() <= 1 + 1e-4).all()
        assert layer.soft_weights is None
    assert all(torch.equal(before_all[name], value) for name, value in network.state_dict().items())


def test_a_step_that_leads_away_is_undone(images, samples, monkeypatch):
    network = float_network()
    quantized = coarse(network, images)

    def worse(quantized, *others, **options):
        for layer in quantized.layers.values():
            layer.weight_log_step.data += 1.0

    monkeypatch.setattr("bitsearch.calibrate.calibration.reconstruct", worse)
    steps = calibrate(quantized, network, samples, CLASSIFICATION, iterations=1)
    assert [step.name for step in steps] == ["step sizes", "batch norm", "biases", "reconstruction"]
    assert not steps[-1].kept
    assert steps[-1].divergence == steps[-2].divergence
    assert held_out_divergence(quantized, network, samples, CLASSIFICATION) == steps[-1].divergence
    assert all(after.divergence <= before.divergence for before, after in pairwise(steps))


def test_without_iterations_nothing_is_reconstructed_and_the_same_call_ends_alike(images, samples):
    network = float_network()
    results = []
    for _ in range(2):
        quantized = coarse(network, images)
        steps = calibrate(quantized, network, samples, CLASSIFICATION, iterations=0)
        results.append({name: value.clone() for name, value in quantized.state_dict().items()})
    assert [step.name for step in steps] == ["step sizes", "batch norm", "biases"]
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_samples_are_drawn_from_the_training_split_and_a_quarter_is_held_out():
    inputs = torch.arange(100.0).view(100, 1)
    train = TensorDataset(inputs, inputs[:, 0].long())
    splits = Splits(train, train, None, (1,), 100)
    drawn = calibration_splits(splits, 40, seed=3)
    again = calibration_splits(splits, 40, seed=3)
    values, labels = drawn.train.inputs, drawn.train.targets
    assert torch.equal(values, again.train.inputs)
    assert len(set(values[:, 0].tolist())) == 40
    assert torch.equal(values[:, 0].long(), labels)
    samples = CalibrationSamples.of(drawn, torch.device("cpu"), 16)
    assert (len(samples.fitted), len(samples.held_out)) == (30, 10)
    assert torch.equal(torch.cat([samples.fitted, samples.held_out]), values)
    copied = copy.deepcopy(splits.train.tensors)
    assert all(torch.equal(a, b) for a, b in zip(copied, train.tensors, strict=True))


def test_samples_with_frames_keep_their_time_axis():
    frames = torch.rand(20, 3, 2)
    splits = Splits(TensorDataset(frames, torch.zeros(20).long()), None, None, (3, 2), 2, frames=3)
    drawn = calibration_splits(splits, 16, seed=0)
    samples = CalibrationSamples.of(drawn, torch.device("cpu"), 8)
    assert samples.fitted.shape == (3, 12, 2)
    assert [part.shape for part in samples.parts(samples.fitted)] == [(3, 8, 2), (3, 4, 2)]
    assert samples.drawn(5, torch.Generator()).shape == (3, 5, 2)


def test_several_inputs_of_a_sample_are_cut_alike():
    class Pairs(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return {"a": torch.tensor([float(index)]), "b": torch.tensor([index + 0.5, 0.0])}, torch.tensor(0)

    drawn = calibration_splits(Splits(Pairs(), None, None, {"a": (1,), "b": (2,)}, 1), 16, seed=0)
    samples = CalibrationSamples.of(drawn, torch.device("cpu"), 5)
    parts = list(samples.parts(samples.fitted))
    assert [len(part["a"]) for part in parts] == [5, 5, 2]
    for part in [*parts, samples.drawn(4, torch.Generator())]:
        assert torch.equal(part["b"][:, 0], part["a"][:, 0] + 0.5)


def test_of_a_loader_the_first_samples_count():
    inputs = torch.arange(50.0).view(50, 1)
    loader = DataLoader(TensorDataset(inputs, torch.zeros(50).long()), batch_size=8, shuffle=True)
    train = LoadedSamples(loader, "train")
    drawn = calibration_splits(Splits(train, train, None, (1,), 1), 20, seed=0)
    assert drawn.train.inputs[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(("count", "line"), [(8, "at least 16"), (33, "there are 32 for training")])
def test_too_few_samples_are_refused(count, line):
    train = TensorDataset(torch.zeros(32, 1), torch.zeros(32).long())
    with pytest.raises(InputError, match=line):
        calibration_splits(Splits(train, train, None, (1,), 1), count, seed=0)


def test_a_calibration_keeps_to_powers_of_two(images, samples, monkeypatch):
    monkeypatch.setattr("bitsearch.calibrate.calibration.NEAR", 0.0)
    network = float_network()
    model = CostModel(trace(network, images[:2]))
    rules = AllowedBits.make(model, SPACE.choices, SPACE.first_layer)
    bits = UniformBits(weight_bits=3, spike_bits=3, time_steps=2)
    plan = rules.nearest(model, bits, granularity="layer", step_sizes="power_of_two")
    quantized = QuantizedNetwork(convert(network, plan), model, rules, SPACE.baseline).eval()
    steps = calibrate(quantized, network, samples, CLASSIFICATION, iterations=10)
    assert [step.name for step in steps] == list(STEPS)
    for layer in quantized.layers.values():
        for step in (*layer.spike_step.tolist(), layer.weight_step.item()):
            assert math.frexp(step)[0] == 0.5


def test_what_is_near_enough_is_not_reconstructed(images, samples, monkeypatch):
    network = float_network()
    fine = copy_with(network, UniformBits(weight_bits=8, spike_bits=8, time_steps=4), images)
    told = []
    monkeypatch.setattr("bitsearch.calibrate.calibration.reconstruct", lambda *others, **options: told.append(options))
    steps = calibrate(fine, network, samples, CLASSIFICATION, iterations=7)
    with torch.no_grad():
        logits = network(samples.held_out).double()
    mean = logits.mean(0).expand_as(logits)
    spread = nn.functional.kl_div(mean.log_softmax(1), logits.softmax(1), reduction="batchmean")
    assert held_out_spread(network, samples, CLASSIFICATION) == pytest.approx(float(spread))
    assert steps[-1].divergence <= NEAR * spread
    assert ([step.name for step in steps], told) == (["step sizes", "batch norm", "biases"], [])
    calibrate(coarse(network, images), network, samples, CLASSIFICATION, iterations=7)
    assert [options["iterations"] for options in told] == [7]


def test_a_calibration_goes_on_where_another_has_ended(images, samples):
    network = float_network()
    whole, parted = coarse(network, images), coarse(network, images)
    expected = calibrate(whole, network, samples, CLASSIFICATION, iterations=3)
    begun = calibrate(parted, network, samples, CLASSIFICATION, iterations=0)
    assert calibrate(parted, network, samples, CLASSIFICATION, iterations=3, done=begun) == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in parted.state_dict().items())
