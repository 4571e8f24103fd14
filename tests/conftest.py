import pytest
import torch

from bitsearch.search.run import SearchResult, search
from bitsearch.space import SearchSpace

TINY_SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 4
[training]
full_precision_epochs = 4
epochs = 2
[search]
trials = 2
uniform_trials = 2
[search.parameters]
budget_share = { low = 0.5, high = 1.0 }
weight_price = { low = 0.2, high = 5.0, log = true }
estimator = { choices = ["curvature", "straight_through"] }
"""


@pytest.fixture(autouse=True, scope="session")
def single_torch_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_space_text() -> str:
    return TINY_SPACE


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """A real search space whose whole run takes seconds."""
    return SearchSpace.from_toml(TINY_SPACE)


@pytest.fixture(scope="session")
def finished_run(tiny_space, tmp_path_factory) -> SearchResult:
    """A finished run of the tiny space at 8x; tests read it and leave it as it is."""
    return search(
        tiny_space, "8x", out=tmp_path_factory.mktemp("finished") / "run", command="bitsearch run --budget 8x"
    )
