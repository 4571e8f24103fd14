"""What a quantized layer keeps between its calls in one forward pass."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Calls:
    """The calls of one forward pass so far; a copy of it is a pass that has not begun."""

    count: int = 0
    residual: Tensor | None = None
    """What the neuron's membrane holds after the last call."""
    reference: Tensor | None = None
    """What the membrane of the network's own neuron holds, while step sizes are set by what that one sends."""
    step: int = 0
    """Time step of the last call."""
    membrane: Tensor | None = None
    """Before the last call's spikes."""
    weight: Tensor | None = None
    """On its grid, the same for every call."""
    input: Tensor | None = None
    version: int = 0
    """Of that input when it came: it is changed in place if it has another now."""
    result: Tensor | None = None
    """Of that input."""
    inputs: list[Tensor] = field(default_factory=list)
    """Of the calls since the first whose step sizes had to be set."""
    open_steps: list[int] = field(default_factory=list)
    """The time steps whose sizes are being set."""

    def __deepcopy__(self, memo: object) -> "Calls":
        # What is kept belongs to a graph that cannot be copied.
        return Calls()

    def had(self, x: Tensor) -> bool:
        """True if the last call had this input, as it is now."""
        if self.input is None or self.input.shape != x.shape or self.input._version != self.version:
            return False
        return self.input is x or torch.equal(self.input, x)

    def add_input(self, x: Tensor, stale: list[int], *, framed: bool) -> tuple[Tensor, list[int]]:
        """(the inputs of all calls since step sizes had to be set, the time steps concerned).

        With ``framed`` their first axis holds the frames, and the same number of them.
        """
        self.open_steps = sorted({*self.open_steps, *stale})
        if not self.open_steps:
            return x, []
        self.inputs.append(x.detach())
        if len({part.shape for part in self.inputs}) == 1:
            return torch.cat(self.inputs, 1 if x.dim() > 1 else 0), self.open_steps
        if framed:
            return torch.cat([part.flatten(1) for part in self.inputs], 1), self.open_steps
        return torch.cat([part.flatten() for part in self.inputs]), self.open_steps
