import pytest
import torch

from bitsearch.train.threads import limited_threads, threads_for


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("activations", "threads"), [(0, 1), (1.4e5, 1), (2.5e6, 2), (1e9, 4)])
def test_small_networks_get_one_thread_and_none_more_than_torch_has(activations, threads):
    assert threads_for(activations) == threads
    with limited_threads(activations):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 4


def test_threads_come_back_after_an_error():
    with pytest.raises(ValueError, match="stop"), limited_threads(0):
        raise ValueError("stop")
    assert torch.get_num_threads() == 4
