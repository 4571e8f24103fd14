"""Whether a network has learned: statements that chance makes false, whatever kernels torch picks.

Another order of summation moves single activations over a rounding boundary, and training goes elsewhere from there; so
no accuracy and no loss is the same on every processor. That a network has learned is: what it gets right is more than
guesses would, and what its samples cost is less than before, both by five standard errors, which chance reaches once in
millions of times.
"""

import copy
import math

import torch
from torch.nn import functional

ERRORS = 5
"""Standard errors: beyond as many, a normal variable is once in 3.5 million times."""


def guessed(samples: int, classes: int) -> float:
    """The accuracy that guesses among ``classes`` do not reach on so many samples."""
    share = 1 / classes
    return share + ERRORS * math.sqrt(share * (1 - share) / samples)


@torch.no_grad()
def sample_losses(network: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """``[N]``: each sample's cross entropy, by statistics of this batch, so that they change with the weights alone."""
    logits = copy.deepcopy(network).train()(inputs)
    return functional.cross_entropy(logits.double(), labels, reduction="none")


def fell(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether the same samples cost less than before on average, beyond what the samples' choice explains."""
    less = before - after
    return less.mean().item() > ERRORS * less.std().item() / math.sqrt(len(less))
