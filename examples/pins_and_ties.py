"""What you know of single layers, said by their names: fixed bits, fewer choices, and numbers in common."""

import torch

import bitsearch


def main() -> dict[str, bitsearch.LayerPlan]:
    network = bitsearch.make_network("digits_cnn", {"width": 8}, input_shape=(1, 8, 8), classes=10)
    rules = [
        bitsearch.LayerRule(match="conv*", weight_bits=bitsearch.Span(low=2, high=6)),  # from 2 to 6
        bitsearch.LayerRule(match="classifier", weight_bits=8, time_steps=1),  # a pin
    ]
    ties = [bitsearch.TieRule(match=["conv3", "conv4"], share=["spike_bits", "time_steps"])]
    quantized = bitsearch.quantize(network, torch.rand(16, 1, 8, 8), layers=rules, ties=ties)

    # Nothing is trained here: the projection alone shows that every plan keeps to the rules.
    layers = quantized.project("memory=8KiB", "s_ace=8x")
    for name, bits in layers.items():
        print(f"{name:10} {bits}")
    for metric in ("weight_memory", "s_ace"):
        print(f"{metric:14} {quantized.costs[metric]:,.0f}")
    assert layers["classifier"].weight_bits == 8
    assert layers["conv3"].spike_bits == layers["conv4"].spike_bits

    # On the command line: --layer 'conv*:weight_bits={low = 2, high = 6}' --layer 'classifier:weight_bits=8'
    return layers


if __name__ == "__main__":
    main()
