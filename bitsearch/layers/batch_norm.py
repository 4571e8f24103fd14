"""Batch norm over a batch that several processes share, or that has a single sample.

A channel's statistics over a single value say nothing: where a training set is a multiple of the batch size plus one,
the last batch is normalized by those that were gathered so far.

:class:`torch.nn.SyncBatchNorm` does not run on a CPU, and takes the place of classes with a forward of their own, such
as spikingjelly's multi-step batch norm; this one does the same on any device and beneath any subclass.
"""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitsearch.distributed import all_reduce_sum, world_size
from bitsearch.errors import InputError
from bitsearch.quant.uniform import cast_like, working_precision


class SharedBatchNorm(_BatchNorm):
    """Normalizes ``[N, C, ...]`` by the statistics of all processes' shares while it trains.

    Of a single value a channel it takes the running statistics, and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`torch.nn.BatchNorm2d` on the whole batch."""
        if not self.training or world_size() == 1:
            single = self.training and x.dim() > 1 and x.numel() == x.shape[1]
            return self._by_running_statistics(x) if single else super().forward(x)
        self._check_input_dim(x)
        with torch.no_grad():
            count, mean, variance = _statistics(working_precision(x))
            self._track(count, mean, variance)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        result: Tensor = _Normalize.apply(x, weight, bias, mean, variance, count, self.eps)
        return result

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if mean is None or variance is None:
            raise InputError(
                "a batch norm without running statistics cannot be trained on a single sample; set its "
                "track_running_stats, or another training.batch_size"
            )
        if self.num_batches_tracked is not None and not self.num_batches_tracked:
            warnings.warn(
                "batch norm has not seen two samples together, and keeps the statistics that it had; raise "
                "training.batch_size or training.micro_batch if all batches are of one",
                stacklevel=2,
            )
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)

    def _track(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(elements a channel, mean, biased variance) over all processes; the latter two ``[C]``."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    local = x.new_tensor(float(x.numel() // x.shape[1]))
    sums = all_reduce_sum(torch.cat([mean * local, local.view(1)]))
    count, centre = sums[-1], sums[:-1] / sums[-1]
    # Around the common mean at once: a difference of two large sums would lose its digits.
    return count, centre, all_reduce_sum(local * (variance + (mean - centre).square())) / count


class _Normalize(torch.autograd.Function):
    """Saves its input only; the statistics' share of the gradient is that of all processes' losses."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
        return nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [axis for axis in range(x.dim()) if axis != 1]

        def channels(value: Tensor) -> Tensor:
            return value.view(-1, *[1] * (x.dim() - 2))

        working = working_precision(grad)
        normalized = (working_precision(x) - channels(mean)) * channels(scale)
        grad_bias, grad_weight = working.sum(axes), (working * normalized).sum(axes)
        common_bias, common_weight = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / count
        passed = working - channels(common_bias) - normalized * channels(common_weight)
        return cast_like(passed * channels(scale * weight), x), grad_weight, grad_bias, *[None] * 4


@functools.cache
def _shared(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Shared{kind.__name__}", (kind, SharedBatchNorm), {})


@contextmanager
def shared_batch_norm(network: nn.Module) -> Iterator[None]:
    """Inside, every batch norm of ``network`` trains on the whole batch, and on one of a single sample."""
    norms = {
        module: type(module)
        for module in network.modules()
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
    }
    for module, kind in norms.items():
        module.__class__ = _shared(kind)  # type: ignore[arg-type]  # a class, which is hashable
    try:
        yield
    finally:
        for module, kind in norms.items():
            module.__class__ = kind
