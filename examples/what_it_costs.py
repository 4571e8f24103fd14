"""What single layers of a network cost at any bits, on any chip: a plan by hand, and nothing trained."""

import torch

import bitsearch


def main() -> dict[str, dict[str, float]]:
    network = bitsearch.make_network("digits_cnn", {"width": 8}, input_shape=(1, 8, 8), classes=10)
    costs = {}
    for chip in ("generic", "power_of_two", "cortex_m4"):
        quantized = bitsearch.quantize(network, torch.rand(16, 1, 8, 8), target=chip)
        plans = {
            name: bits.with_bits(2, (2,)) if name != "conv1" else bits for name, bits in quantized.layer_plans.items()
        }
        quantized.fix(plans)  # these bits, frozen
        costs[chip] = quantized.costs
        energy = f"{costs[chip]['energy'] / 1000:.0f} nJ" if "energy" in costs[chip] else "no energy published"
        print(f"{chip:13} weights {costs[chip]['weight_memory']:.0f} bytes, {energy}")
    return costs


if __name__ == "__main__":
    main()
