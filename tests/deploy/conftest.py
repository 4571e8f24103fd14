import pytest
import torch
from calibration import calibrate

from bitsearch.choices import FirstLayer
from bitsearch.cost import CostModel, trace
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import Baseline, BitPlan, Provenance, UniformBits


@pytest.fixture(scope="session")
def examples():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def quantized(examples):
    """(digits_cnn with four channels in uniform bits, what the cost model says of its memory)."""

    def make(granularity="layer", decay=1.0, plan=None, **bits):
        torch.manual_seed(0)
        network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
        model = CostModel(trace(network, examples))
        if plan is None:
            plan = model.uniform(UniformBits(**bits), FirstLayer(), granularity=granularity, decay=decay)
        return calibrate(convert(network, plan), examples), model.cost("weight_memory", plan)

    return make


@pytest.fixture(scope="session")
def make_plan():
    """A plan with these layers, and nothing much else."""

    def make(layers, **content):
        fields = {
            "space": "tiny",
            "network": "digits_cnn",
            "budget": (),
            "baseline": Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={}),
            "layers": layers,
            "costs": {},
            "provenance": Provenance(bitsearch="0.1.0", torch="2.11.0", seed=3, command="by hand"),
        }
        return BitPlan(**fields | content)

    return make
