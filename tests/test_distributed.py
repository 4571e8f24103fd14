"""In one process; what several tell each other is seen in what they train together (tests/train/test_fabric.py)."""

import pytest
import torch

from bitsearch.distributed import all_gather, all_reduce_max, all_reduce_sum, rank, world_size
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import initial_step


def test_one_process_is_alone_and_its_share_is_the_whole():
    x = torch.randn(3, 2)
    assert (world_size(), rank()) == (1, 0)
    for told in (all_reduce_sum, all_reduce_max, all_gather):
        assert told(x) is x


@pytest.mark.parametrize("elements", [100, 5000])
def test_the_step_of_a_share_is_that_of_the_whole(elements):
    x, bits = torch.randn(elements, generator=torch.Generator().manual_seed(0)), torch.tensor(3.0)
    for signed in (False, True):
        for step in (renew_step, initial_step):
            assert torch.equal(step(x, bits, signed=signed, shared=True), step(x, bits, signed=signed))
