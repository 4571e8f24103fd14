"""Can a network be deployed as its hardware target has it? Asked before anything is trained."""

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from bitsearch.cost import Target
from bitsearch.deploy.formats import FORMATS
from bitsearch.deploy.integer.bounds import TooWideError
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.network_inputs import Inputs, single_input
from bitsearch.plan import LayerPlan


@torch.no_grad()
def rehearse(network: nn.Module, examples: Inputs, layers: Mapping[str, LayerPlan], target: Target) -> None:
    """Lower a copy of an untrained network to integers, and have the target's format look at it.

    What a format has no operation for is so whatever the bits and weights, and a search would find it out only when its
    plan is deployed.

    Args:
        network: the float network, left as it is.
        examples: a batch to trace it with.
        layers: bits that the target allows.
        target: whose :attr:`.Target.format` is asked; nothing happens where it names none.

    Raises:
        InputError: the format cannot express the network; names layer, reason and target.
    """
    if target.format is None:
        return
    quantized = convert(network, layers).cpu()
    try:
        inputs = single_input(examples, "a packed file").cpu()
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            # Of an untrained network nothing that is silent or too large says anything.
            warnings.simplefilter("ignore")
            # The first batch sets the step sizes.
            quantized.train()(inputs)
            lowered = lower(quantized.eval(), inputs)
        FORMATS[target.format].express(PackedNetwork(lowered.program, lowered.numbers, {}, None))
    except TooWideError:
        return
    except InputError as error:
        reason = f"plans for the hardware target {target.name!r} are deployed as {target.format}"
        raise InputError(f"{error}; {reason}: change the network, or take another target") from error
