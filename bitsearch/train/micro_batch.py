"""A batch in parts: as many samples at once as there is memory for."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, split_inputs

Part = tuple[Inputs, Tensor]
"""(inputs, labels) of a few samples of a batch."""


class MicroBatches:
    """Cuts a process's share of a batch into parts of at most ``size`` samples, fewer once memory has run out.

    Args:
        size: None for all at once.
        batch_axis: the samples' axis in the inputs.
        processes: that share a batch.
    """

    def __init__(self, size: int | None, batch_axis: int, processes: int) -> None:
        self.size, self.batch_axis, self.processes = size, batch_axis, processes

    def state_dict(self) -> dict[str, Any]:
        """The size."""
        return {"size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that size."""
        self.size = state["size"]

    def parts(self, inputs: Inputs, labels: Tensor, batch: int) -> list[Part]:
        """The share's parts, equal but for one sample; as many in every process.

        Args:
            inputs: this process's share of a batch.
            labels: ``[N]``.
            batch: samples of the whole batch.
        """
        smallest, largest = batch // self.processes, -(-batch // self.processes)
        # Where shares of one and two samples meet parts of one, parts of two it is: none may be empty.
        count = min(-(-largest // (self.size or largest)), max(1, smallest))
        if count == 1:
            return [(inputs, labels)]
        cut = split_inputs(inputs, count, self.batch_axis), labels.tensor_split(count)
        return list(zip(*cut, strict=True))

    def halve(self, parts: Sequence[Part]) -> None:
        """Take half as many samples at once as these parts had, for which memory did not suffice, and warn of it.

        Raises:
            InputError: it was one sample; or several processes train together, which would wait for each other.
        """
        size = max(len(labels) for _, labels in parts)
        if size == 1:
            raise InputError("out of memory on a single sample; take a smaller network, or a device with more memory")
        if self.processes > 1:
            raise InputError(
                f"a process ran out of memory on {size} samples at once; processes that train together cannot "
                f"repeat a batch: set training.micro_batch to {size // 2} or less"
            )
        self.size = size // 2
        warnings.warn(
            f"out of memory on {size} samples at once; going on with {self.size} (training.micro_batch)",
            RuntimeWarning,
            stacklevel=2,
        )
