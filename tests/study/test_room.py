"""A perceptron whose first layer, fixed at eight bits, costs more than the budget: it is searched all the same."""

import pytest
from bars import SHORT, loaders
from torch import nn

import bitsearch
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace

pytestmark = pytest.mark.training

PERCEPTRON = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
"""192 of its 228 weights are the first layer's: at w8 s8 it alone has a Bit Budget above a quarter of 8·4·2."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("room") / "run"


def search(**options):
    return bitsearch.search(PERCEPTRON, loaders(), **(SHORT | {"budget": "4x", "trials": 1} | options))


def test_its_first_layer_gives_way_and_a_line_says_so(folder):
    with pytest.warns(
        UserWarning, match="budget 4x has no room for the first layer '1' at w8 s8 T1: .* its spike_bits"
    ):
        result = search(out=folder)
    assert result.best.met
    assert result.best.layers["1"].weight_bits == 8
    assert result.best.layers["1"].spike_bits[0] < 8
    page = bitsearch.write_report(result.folder).read_text(encoding="utf-8")
    assert "its bits are what [[layers]] let &#39;1&#39; have" in page


@pytest.mark.filterwarnings("ignore:budget 4x has no room:UserWarning")
def test_the_same_call_goes_on(folder):
    before = bitsearch.load(folder).best
    assert search(out=folder).best == before


def test_with_room_it_keeps_its_bits(tmp_path):
    result = search(budget="1.2x", timeout=0, out=tmp_path / "run")
    space = result.folder.settings.space
    assert (space.layers, space.first_layer.relax, result.best.layers["1"].spike_bits) == ((), False, (8,))


@pytest.mark.parametrize(
    "options", [{"space": SearchSpace.load("digits")}, {"layers": ["1:spike_bits=8", "1:weight_bits=8"]}]
)
def test_what_somebody_fixed_stays_and_is_named(options, tmp_path):
    with pytest.raises(InputError, match=r"budget 4x .* is infeasible: the smallest feasible value is"):
        search(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
