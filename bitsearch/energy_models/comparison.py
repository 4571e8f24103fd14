"""Several models' estimates of one network and its firing, each the mean of the same samples."""

from collections.abc import Sequence
from statistics import fmean

from torch import nn

from bitsearch.cost import CostModel
from bitsearch.energy_models import ENERGY_MODELS, Estimate
from bitsearch.energy_models.firing import record_firing
from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs


def estimates(
    names: Sequence[str], network: nn.Module, model: CostModel, samples: Sequence[Inputs]
) -> dict[str, Estimate]:
    """By the name of an energy model, its mean estimate for one input.

    Args:
        names: keys of :data:`bitsearch.energy_models.ENERGY_MODELS`.
        network: quantized, with its weights.
        model: costs of the network.
        samples: inputs of one sample each.

    Raises:
        InputError: a model has no formula for a layer of the network.
    """
    firings = [record_firing(network, model, inputs) for inputs in samples]
    means = {}
    for name in names:
        try:
            parts = [ENERGY_MODELS[name].estimate(firing) for firing in firings]
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"the energy model {name!r} does not know this network: {error}") from error
        arithmetic, memory = [part.arithmetic for part in parts], [part.memory for part in parts]
        means[name] = Estimate(
            fmean(part.total for part in parts),
            None if None in arithmetic else fmean(part for part in arithmetic if part is not None),
            None if None in memory else fmean(part for part in memory if part is not None),
        )
    return means
