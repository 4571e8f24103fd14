"""Collective operations of the processes that train one network together; a single process returns its own tensors.

Each process has its share of every batch. A decision that depends on a batch, such as a step size, is made from sums
over all shares, so that it is the same in every process, bit for bit, as data-parallel training requires. If one
process calls one of these functions, every process of its group has to. Before there is a group,
:mod:`bitsearch.launch` asks the environment.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """The number of processes in torch's default group; 1 without a group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of every process's ``x`` (the same shape in all), without gradients; ``x`` itself in one process."""
    return _reduced(x, distributed.ReduceOp.SUM) if world_size() > 1 else x


def all_reduce_max(x: Tensor) -> Tensor:
    """The element-wise largest of every process's ``x`` (the same shape in all); ``x`` itself in one process."""
    return _reduced(x, distributed.ReduceOp.MAX) if world_size() > 1 else x


def all_gather(x: Tensor) -> Tensor:
    """Every process's ``x`` one after the other along the first axis, whose length may differ; without gradients."""
    if world_size() == 1:
        return x
    lengths = torch.zeros(world_size(), dtype=torch.long, device=x.device)
    lengths[rank()] = len(x)
    ends = all_reduce_sum(lengths).cumsum(0).tolist()
    rows = x.new_zeros(ends[-1], *x.shape[1:])
    rows[ends[rank()] - len(x) : ends[rank()]] = x.detach()
    return all_reduce_sum(rows)


def _reduced(x: Tensor, operation: Any) -> Tensor:
    result = x.detach().clone()
    distributed.all_reduce(result, op=operation)
    return result
