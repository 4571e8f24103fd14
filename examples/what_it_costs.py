"""What a network costs at any bits, on any chip, before anything is trained: plans by hand."""

import torch

import bitsearch

CHIPS = ("generic", "cortex_m4")
BITS = ((8, 8), (4, 4), (2, 2), (1, 1))
"""(weight bits, spike bits) of every layer but the first, which reads the images with 8 and 8."""


def main() -> dict[tuple[str, int, int], dict[str, float]]:
    network = bitsearch.make_network("digits_cnn", {"width": 8}, input_shape=(1, 8, 8), classes=10)
    images = torch.rand(16, 1, 8, 8)
    costs = {}
    for chip in CHIPS:
        for weight_bits, spike_bits in BITS:
            quantized = bitsearch.quantize(network, images, target=chip)
            first, *others = quantized.layer_plans.items()
            # One number of spike bits for every time step: here there is one step.
            plans = {name: bits.with_bits(weight_bits, (spike_bits,)) for name, bits in others}
            quantized.fix(dict([first]) | plans)
            costs[chip, weight_bits, spike_bits] = quantized.costs

    print(f"{'chip':10} bits   weights      energy")
    for (chip, weight_bits, spike_bits), cost in costs.items():
        energy = f"{cost['energy'] / 1000:7.0f} nJ" if "energy" in cost else "none published"
        print(f"{chip:10} w{weight_bits} s{spike_bits}  {cost['weight_memory']:5.0f} B  {energy}")
    return costs


if __name__ == "__main__":
    main()
