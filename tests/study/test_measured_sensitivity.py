"""Sensitivities of networks from a run folder, a search space and a Python program."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.allocation.sensitivity.measure import finest_bits
from bitsearch.allocation.sensitivity.records import Sensitivities
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace


@pytest.fixture(scope="module")
def measured(finished_run):
    return bitsearch.sensitivity(finished_run.folder, samples=30)


def test_a_run_is_measured_at_its_full_precision_weights(finished_run, measured):
    space = finished_run.folder.settings.space
    assert (measured.space, measured.network, measured.samples) == (space.name, space.network, 30)
    bits = space.choices.weight_bits
    assert {row.value for row in measured.widths if row.number == "weight_bits"} == set(bits.values) - {bits.high}
    # The same weights by their file, and by an object that has them.
    weights = finished_run.folder.full_precision_weights
    assert bitsearch.sensitivity(space, weights=weights, samples=30).widths == measured.widths
    data = bitsearch.load_data(space.data, space.data_options, split_seed=space.split_seed)
    network = bitsearch.make_network(
        space.network, space.network_options, input_shape=data.input_shape, classes=data.classes
    )
    bitsearch.load_weights(network, weights)
    by_object = bitsearch.sensitivity(network, data, space=space, samples=30)
    assert by_object.widths == measured.widths
    assert by_object.network.endswith("(object)")


def test_one_bit_costs_more_than_seven(measured):
    for layer in measured.layers:
        rows = {row.value: row for row in measured.of(layer, "weight_bits")}
        assert rows[1].divergence > 10 * rows[7].divergence
        assert rows[1].predicted > 10 * rows[7].predicted
        assert rows[1].rounding + rows[1].clipping > 10 * (rows[7].rounding + rows[7].clipping)


def test_the_file_is_read_as_written(measured, tmp_path):
    path = tmp_path / "sensitivity.json"
    measured.save(path)
    assert Sensitivities.load(path) == measured
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": -1'), encoding="utf-8")
    with pytest.raises(InputError, match=r"sensitivity.json: seed is -1.*measure it anew"):
        Sensitivities.load(path)


def test_the_table_has_worst_layers_first(measured):
    table = measured.table()
    assert len(table) == len(measured.widths)
    means = table.groupby("layer", sort=False)["increase"].mean()
    assert list(means.index) == measured.layers
    assert means.is_monotonic_decreasing


def test_the_finest_bits_are_the_most_that_any_layer_may_get(finished_run):
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    rules = bitsearch.quantize(network, torch.rand(5, 4), target="power_of_two").rules
    finest = finest_bits(rules)
    assert finest.weight_bits == max(choices.weight_bits.high for choices in rules.choices.values())


def test_a_target_of_ones_own_is_measured(finished_run):
    measured = bitsearch.sensitivity(finished_run.folder, target="power_of_two", samples=8)
    assert {row.value for row in measured.widths if row.number == "weight_bits"} <= {1, 2, 4, 8}


def _data():
    samples = TensorDataset(torch.rand(12, 4), torch.arange(12) % 2)
    return samples, TensorDataset(torch.rand(6, 4), torch.arange(6) % 2)


def _network():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "digits"}, "'digits' has no trained weights.*give their file with --weights"),
        ({"source": "digits", "samples": 0}, "samples is 0; give a whole number from 1"),
        ({"source": "digits", "seed": -1}, "seed is -1"),
        ({"source": "digits", "data": 1}, "are for a network"),
        ({"source": _network()}, "comes with its data"),
        ({"source": _network(), "data": _data(), "weights": "x"}, "load them into the network"),
        ({"source": "no_such_space"}, "no search space named"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message):
        bitsearch.sensitivity(**arguments)


def test_a_run_brings_its_own_weights(finished_run, copied):
    with pytest.raises(InputError, match="weights of its own"):
        bitsearch.sensitivity(finished_run.folder, weights="x")
    run = copied(finished_run).folder
    run.full_precision_weights.unlink()
    with pytest.raises(InputError, match="no full-precision network yet"):
        bitsearch.sensitivity(run)


def test_code_of_a_run_is_run_only_if_trusted(finished_run, copied):
    run = copied(finished_run).folder
    settings = run.settings
    run.write_settings(
        settings.model_copy(update={"space": settings.space.model_copy(update={"network": "mynets:Net"})})
    )
    with pytest.raises(InputError, match="add --trust"):
        bitsearch.sensitivity(run.path)


def test_the_network_and_the_space_are_left_as_they_were():
    network, space = _network(), SearchSpace.load("digits")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measured = bitsearch.sensitivity(network, _data(), space=space, samples=4)
    assert measured.layers == ["2"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
