"""Bits that are learned in a training loop of your own, and a plan that meets its budget exactly."""

import itertools
import math

import torch
from torch import nn

import bitsearch

EPOCHS, BATCH = 4, 64
BUDGET = "8x"  # an eighth of what 8-bit weights, 4-bit spikes and two time steps cost


def main() -> bitsearch.BitPlan:
    digits = bitsearch.load_data("digits", {}, split_seed=0)
    torch.manual_seed(0)
    sizes = (64, 24, 96, 48)
    hidden = [part for ends in itertools.pairwise(sizes) for part in (nn.Linear(*ends), nn.ReLU())]
    network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(48, 10))

    # A copy, with a learnable number of weight bits, spike bits and time steps in every layer.
    quantized = bitsearch.quantize(network, example_input=digits.train[:8][0])
    optimizer = torch.optim.Adam(quantized.parameter_groups(lr=5e-3))
    quantized.watch(optimizer)
    steps = EPOCHS * math.ceil(len(digits.train) / BATCH)
    for epoch in range(EPOCHS):
        for inputs, labels in bitsearch.batches(digits.train, BATCH, torch.Generator().manual_seed(epoch)):
            # The penalty draws the bits to the budget; it tightens over the first half of the steps.
            loss = nn.functional.cross_entropy(quantized(inputs), labels) + quantized.penalty(BUDGET, steps=steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    quantized.project(BUDGET)  # exactly within the budget; from here on bits are frozen, and training may go on
    plan = quantized.plan(BUDGET)
    for name, bits in plan.layers.items():
        print(f"{name:6} {bits}")
    print(plan)

    plan.save("plan.json")
    bitsearch.save_weights(quantized, "weights.safetensors")
    return plan


if __name__ == "__main__":
    main()
