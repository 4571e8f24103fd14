"""SpikingJelly's models on firing made by hand, against their papers' formulas worked out here."""

import pytest
import torch
from spikingjelly.activation_based import op_counter
from torch import nn

from bitsearch.cost import CostModel, trace
from bitsearch.energy_models import ENERGY_MODELS, Estimate
from bitsearch.energy_models import comparison as comparing
from bitsearch.energy_models.comparison import estimates
from bitsearch.energy_models.firing import Firing, _unrolled
from bitsearch.errors import InputError

LEVELS = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]])
"""Of two time steps: three spikes, of four in all where a level of two is two."""


def dense_firing(levels=LEVELS):
    firing, layer = Firing(), nn.Linear(3, 2)
    firing.add_neurons("fc", 1.0, levels)
    for step in levels:
        for spikes in _unrolled(step):
            firing.add_layer("fc", layer, spikes)
    return firing


def test_lemaire_by_hand():
    synops, calls, spikes, steps = 4 * 2, 3, 3, 2
    additions = synops + 2 * calls + spikes
    # 0.1 pJ an addition; an address is one for every synaptic operation of a linear layer.
    arithmetic = 0.1 * (additions + synops)

    def memory(accesses, capacity):
        # Of words of 4 bytes; 10 pJ each at 8 KiB, in proportion below.
        return 10 * accesses * capacity * 4 / 8192

    queues = memory(4 + spikes, 1000)
    parameters = memory(synops + 2 * calls, 3 * 2 + 2)
    potentials = memory(2 * synops, 2) + memory(2 * 3 * steps, 3)
    estimate = ENERGY_MODELS["lemaire"].estimate(dense_firing())
    assert estimate.arithmetic == pytest.approx(arithmetic, rel=1e-9)
    assert estimate.memory == pytest.approx(queues + parameters + potentials, rel=1e-9)
    assert estimate.total == pytest.approx(arithmetic + queues + parameters + potentials, rel=1e-9)


def test_simple_by_hand():
    # Four bytes of every weight that a spike uses, of a bias a call, and of three membranes, read and written.
    words = 4 * 2 + 3 * 2 + 2 * 2 * 3
    estimate = ENERGY_MODELS["simple"].estimate(dense_firing())
    assert estimate.memory == pytest.approx(24.96 * 4 * words, rel=1e-9)
    assert estimate.total == estimate.arithmetic + estimate.memory
    silent = ENERGY_MODELS["simple"].estimate(dense_firing(torch.zeros_like(LEVELS)))
    assert estimate.arithmetic > silent.arithmetic


def test_spikesim_by_hand():
    firing, layer = Firing(), nn.Conv2d(1, 2, 3, padding=1)
    firing.add_layer("conv", layer, torch.ones(1, 1, 4, 4))
    # A cycle of one crossbar of 64 × 64 for every output pixel.
    control = 19.64 * 8 + 4.64 + 397 + 8 * 16 * 1.15e-6 + 8 * 0.2 + 8 * 8 * (2.03084 + 0.094245)
    cycle = control + 1.274 * 4 + 8 * 9 * 1.76423
    assert ENERGY_MODELS["spikesim"].estimate(firing) == Estimate(pytest.approx(16 * cycle, rel=1e-9), None, None)


def test_neuromc_counts_what_fires():
    estimate = ENERGY_MODELS["neuromc"].estimate(dense_firing())
    silent = ENERGY_MODELS["neuromc"].estimate(dense_firing(torch.zeros_like(LEVELS)))
    assert estimate.total == pytest.approx(estimate.arithmetic + estimate.memory, rel=1e-9)
    assert estimate.total > silent.total > 0


def test_the_sources_are_those_that_spikingjelly_names():
    firing = Firing()
    firing.add_layer("conv", nn.Conv2d(1, 2, 3), torch.ones(1, 1, 4, 4))
    firing.eval()
    reports = {
        "simple": op_counter.estimate_simple_energy(firing, ()),
        "lemaire": op_counter.estimate_lemaire_energy(firing, ()),
        "neuromc": op_counter.estimate_neuromc_runtime_energy(firing, ()),
        "spikesim": op_counter.estimate_spikesim_energy(firing, ()),
    }
    assert list(reports) == list(ENERGY_MODELS)
    for name, report in reports.items():
        entry, info = ENERGY_MODELS[name], report.model_info
        assert f"at {info.technology_nm} nm" in entry.summary
        named = " ".join(entry.sources)
        first = info.source_urls[0]
        assert first.removeprefix("https://doi.org/").rpartition("/")[2] in named, (name, first)


@pytest.mark.parametrize(
    ("name", "network", "inputs", "reason"),
    [
        ("spikesim", nn.Sequential(nn.Linear(4, 3)), torch.rand(2, 4), "No supported Conv2d"),
        ("lemaire", nn.Sequential(nn.ConvTranspose2d(1, 2, 2)), torch.rand(2, 1, 4, 4), "ConvTranspose2d"),
    ],
)
def test_what_a_model_has_no_formula_for_is_refused(name, network, inputs, reason, monkeypatch):
    firing = Firing()
    firing.add_layer("0", network[0], inputs[:1])
    monkeypatch.setattr(comparing, "record_firing", lambda *arguments: firing)
    with pytest.raises(InputError) as error:
        estimates([name], network, CostModel(trace(network, inputs)), [inputs[:1]])
    assert str(error.value).startswith(f"the energy model {name!r} does not know this network: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
