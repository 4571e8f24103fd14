"""Whether the training inputs are ever below zero, of data that are read one by one: seen while they are read first."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitsearch.distributed import all_reduce_max
from bitsearch.network_inputs import Inputs, tensors_of
from bitsearch.train.loop import Callback


class InputSigns(Callback):
    """Notes the least training input; of several processes each its share's."""

    def __init__(self) -> None:
        self.least: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """The least so far."""
        return {"least": self.least}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.least = state["least"]

    def before_batch(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
        """Look at the batch."""
        for x in (x for part in parts for x in tensors_of(part)):
            least = x.amin()
            self.least = least if self.least is None else torch.minimum(self.least.to(least.device), least)

    def signed(self) -> bool:
        """True if any input of any process was below zero; all of them call this."""
        assert self.least is not None, "train before asking"
        return bool(all_reduce_max((-self.least).view(1)) > 0)
