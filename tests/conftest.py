import os
import shutil
from importlib import resources

import compiled_code  # noqa: F401 - before torch
import marks
import profiles
import pytest
import torch
from filelock import FileLock
from xdist.scheduler import LoadFileScheduling

from bitsearch.runs.folder import RunFolder
from bitsearch.space import SearchSpace
from bitsearch.study.result import SearchResult
from bitsearch.study.run import search

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


profiles.register()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for mark in marks.marks_of(item.path, item.originalname, item.fixturenames):
            item.add_marker(mark)
    items.sort(key=lambda item: marks.place(item.path))


class _Units(LoadFileScheduling):
    """Files to processes, some of them together."""

    def _split_scope(self, nodeid):
        return marks.unit(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return _Units(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(autouse=True, scope="session")
def single_thread():
    """Of torch, of its compiler and of every command that a test starts: pytest's own processes keep the cores busy.

    BITSEARCH_TEST_THREADS asks for more.
    """
    threads = os.environ.get("BITSEARCH_TEST_THREADS", "1")
    os.environ["OMP_NUM_THREADS"] = threads
    torch.set_num_threads(int(threads))
    torch._inductor.config.compile_threads = int(threads)


@pytest.fixture(scope="session")
def tiny_space_text() -> str:
    return TINY_SPACE


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """A real search space whose whole run takes seconds."""
    return SearchSpace.from_toml(TINY_SPACE)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Makes a run in a folder that all of pytest's processes share; the first to ask makes it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder if "PYTEST_XDIST_WORKER" not in os.environ else folder.parent

    def made(name, make) -> SearchResult:
        path, mark = folder / name, folder / f"{name}.made"
        with FileLock(folder / f"{name}.lock"):
            if not mark.exists():
                make(path)
                mark.touch()
        return SearchResult(RunFolder(path))

    return made


@pytest.fixture(scope="session")
def finished_run(tiny_space, made_once) -> SearchResult:
    """A finished run of the tiny space at 8x; tests only read it."""
    return made_once("finished", lambda path: search(tiny_space, "8x", out=path, command="bitsearch run --budget 8x"))


@pytest.fixture
def copied(tmp_path):
    """A copy of a run, to write into."""

    def copy(run: SearchResult) -> SearchResult:
        return SearchResult(RunFolder(shutil.copytree(run.folder.path, tmp_path / "copied")))

    return copy


@pytest.fixture(scope="session")
def target_text():
    """The TOML text of a shipped hardware target, renamed."""

    def read(shipped: str, name: str) -> str:
        file = resources.files("bitsearch").joinpath("cost", "targets", f"{shipped}.toml")
        return file.read_text(encoding="utf-8").replace(f'name = "{shipped}"', f'name = "{name}"', 1)

    return read


@pytest.fixture(scope="session")
def run_on_a_target(tiny_space, target_text, tmp_path_factory, made_once) -> SearchResult:
    """A finished run under two budgets on a target of the user's own, whose file is gone; tests only read it.

    The memory of ``mine`` is smaller than the budget on it.
    """

    def make(path):
        file = tmp_path_factory.mktemp("target") / "mine.toml"
        text = target_text("power_of_two", "mine").replace("weight_bytes = 65536", "weight_bytes = 1400")
        file.write_text(text, encoding="utf-8")
        search(
            tiny_space,
            ["memory=2KiB", "s_ace=4x"],
            target=file,
            out=path,
            command="bitsearch run --budget memory=2KiB --budget s_ace=4x --target mine.toml",
        )
        file.unlink()

    return made_once("target", make)
