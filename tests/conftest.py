import os
from importlib import resources

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
def single_thread():
    """Of torch, of its compiler and of every command that a test starts: pytest's own processes keep the cores busy."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    torch._inductor.config.compile_threads = 1


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


@pytest.fixture(scope="session")
def target_text():
    """The TOML text of a shipped hardware target, renamed."""

    def read(shipped: str, name: str) -> str:
        file = resources.files("bitsearch").joinpath("cost", "targets", f"{shipped}.toml")
        return file.read_text(encoding="utf-8").replace(f'name = "{shipped}"', f'name = "{name}"', 1)

    return read


@pytest.fixture(scope="session")
def run_on_a_target(tiny_space, target_text, tmp_path_factory) -> SearchResult:
    """A finished run under two budgets on a target of the user's own, whose file is gone; tests only read it.

    The memory of ``mine`` is smaller than the budget on it.
    """
    folder = tmp_path_factory.mktemp("target")
    text = target_text("power_of_two", "mine").replace("weight_bytes = 65536", "weight_bytes = 1400")
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    result = search(
        tiny_space,
        ["memory=2KiB", "s_ace=4x"],
        target=folder / "mine.toml",
        out=folder / "run",
        command="bitsearch run --budget memory=2KiB --budget s_ace=4x --target mine.toml",
    )
    (folder / "mine.toml").unlink()
    return result
