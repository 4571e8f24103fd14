import pytest

from bitsearch import distributed, launch
from bitsearch.errors import InputError

TOGETHER = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets exactly these of a launcher's variables."""

    def set_variables(**variables):
        for name in TOGETHER:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def told():
    numbers = (launch.launched_world_size, launch.launched_rank, launch.local_rank, launch.local_world_size)
    return *(number() for number in numbers), launch.is_rank_zero()


ALONE = (1, 0, 0, 1, True)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        # srun and mpirun wrappers number processes that do not know each other.
        {"RANK": "1"},
        {"RANK": "1", "LOCAL_RANK": "1"},
        {"WORLD_SIZE": "8"},
        TOGETHER | {"WORLD_SIZE": "1", "RANK": "0"},
    ],
)
def test_a_process_of_its_own_leads_and_speaks(environment, variables):
    environment(**variables)
    assert told() == ALONE


def test_any_launcher_may_start_processes_that_train_together(environment):
    environment(**TOGETHER)
    assert told() == (4, 3, 1, 2, False)
    environment(**TOGETHER | {"RANK": "0"})
    assert launch.is_rank_zero()


@pytest.mark.parametrize("missing", ["LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_processes_that_cannot_find_each_other_are_told_what_is_missing(environment, missing):
    environment(**{name: value for name, value in TOGETHER.items() if name != missing})
    with pytest.raises(InputError, match=f"{missing} is not set; start them with --processes or torchrun"):
        launch.is_rank_zero()


def test_a_number_that_is_none_is_named(environment):
    environment(**TOGETHER | {"RANK": "first"})
    with pytest.raises(InputError, match="RANK is 'first'"):
        launch.launched_rank()


def test_what_was_launched_and_what_is_in_the_group_have_no_name_in_common():
    launched, joined = ({name for name in vars(module) if name.islower()} for module in (launch, distributed))
    assert not {name for name in launched & joined if "rank" in name or "world" in name}
