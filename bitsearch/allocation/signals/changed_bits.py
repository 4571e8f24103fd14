"""A network with other bits in some of its layers for a few forward passes, and as it was afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import LayerPlan


@contextmanager
def changed_bits(network: QuantizedNetwork, plans: Mapping[str, LayerPlan]) -> Iterator[None]:
    """Inside, the layers that ``plans`` names have its bits, with step sizes that are the best for these."""
    with ExitStack() as stack:
        for layer in (network.layers[name] for name in plans):
            stack.enter_context(_as_before(layer))
        for name, plan in plans.items():
            layer = network.layers[name]
            layer.renew_weights = layer.renew_spikes = True
            layer.set_bits(plan)
        yield


@contextmanager
def _as_before(layer: QuantizedLayer) -> Iterator[None]:
    """Whatever happens to the layer inside, its state is the same afterwards."""
    tensors = {name: value.clone() for name, value in layer.state_dict().items()}
    flags = layer.renew_weights, layer.renew_spikes, layer.renewals
    membranes = layer.membrane_bits, layer.membrane_at_steps
    try:
        yield
    finally:
        state = layer.state_dict()
        for name, value in tensors.items():
            state[name].copy_(value)
        layer.renew_weights, layer.renew_spikes, layer.renewals = flags
        layer.membrane_bits, layer.membrane_at_steps = membranes
        layer.refresh_cache()
