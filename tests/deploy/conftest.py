import pytest
import torch
from settled import settle

from bitsearch.cost import CostModel, trace
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.space import FirstLayer


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
        return settle(convert(network, plan), examples), model.cost("weight_memory", plan)

    return make
