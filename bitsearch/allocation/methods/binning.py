"""What binning frames costs the network that an allocation starts from."""

import torch

from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.signals.binning import BinningLoss, bins_frames
from bitsearch.data import batches
from bitsearch.network_inputs import moved


def binning_loss(problem: AllocationProblem) -> BinningLoss | None:
    """Of every searched layer, on a batch of the training split; None where no layer can bin frames.

    The float network stands behind it, which no training of the problem changes: an allocation that is taken up again
    measures the same.
    """
    splits = problem.session.splits
    if splits.frames is None:
        return None
    settings = problem.settings.model_copy(update={"start": problem.rules.maximum})
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    if not any(bins_frames(layer) for layer in quantized.searched_layers.values()):
        return None
    order = torch.Generator().manual_seed(problem.seed)
    inputs, _ = next(iter(batches(splits.train, problem.session.settings.at_once, order)))
    inputs = moved(inputs, next(problem.network.parameters()).device)
    return BinningLoss(quantized, inputs, problem.session.task)
