"""A network converted at its own setting, and the library's own: the same weights, whose every spike is compared."""

import torch
from torch import nn

import bitsearch


def spikes_of_both(network, x, neurons, *, excluded, time_steps, spike_bits=1, **options):
    """By neuron, its spikes ``[T, ...]`` in the library's network and in the converted one.

    Args:
        network: of the library; gets weights of eight bits.
        x: its input, at which step sizes are set.
        neurons: its neurons by module path, with the layer that reads each.
        excluded: layers that keep 32 bits, so that currents are the same from the first on.
        time_steps: of the network's loop.
        spike_bits: as many as the neuron has levels for.
        options: of :func:`bitsearch.quantize`.
    """
    start = bitsearch.UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=time_steps)
    choices = bitsearch.Choices(
        weight_bits=(8, 8), spike_bits=(spike_bits, spike_bits), time_steps=(time_steps, time_steps)
    )
    first = bitsearch.FirstLayer(weight_bits=8, spike_bits=spike_bits, time_steps=time_steps)
    quantized = bitsearch.quantize(
        network, x, start=start, choices=choices, first_layer=first, exclude=excluded, **options
    ).eval()
    sent = {name: ([], []) for name in neurons}
    with torch.no_grad():
        quantized(x)
        for name, layer in quantized.layers.items():
            weight = layer.quantized_weight()
            layer.weight.copy_(weight)
            own_weight(network, name).copy_(weight)
        for name, reader in neurons.items():
            layer = quantized.layers[reader]
            layer.observer = lambda _, spikes, weight, name=name: sent[name][1].append(spikes.clone())
            neuron: nn.Module = network.get_submodule(name)
            neuron.register_forward_hook(
                lambda _, inputs, output, name=name: sent[name][0].append(
                    (output[0] if isinstance(output, tuple) else output).clone()
                )
            )
        expected, result = network.eval()(x), quantized(x)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    return {name: tuple(torch.stack(spikes) for spikes in both) for name, both in sent.items()}


def own_weight(network, path):
    """The library's own of a layer; ``lif.recurrent``, say, is ``lif.recurrent_weights`` where no layer holds it."""
    parent, _, name = path.rpartition(".")
    module = network.get_submodule(parent)
    return getattr(module, name).weight if hasattr(module, name) else getattr(module, f"{name}_weights")


def assert_equal_spikes(both):
    """Every spike is the library's own, and there are some."""
    for name, (library, converted) in both.items():
        assert 0.02 < (library > 0).double().mean() < 0.98, name
        assert torch.equal(library, converted.reshape(library.shape)), name
