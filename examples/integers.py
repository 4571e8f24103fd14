"""A quantized network as integers: packed, read again, and run without a float, spike by spike as in torch."""

import torch
from torch import nn

import bitsearch


def main() -> float:
    digits = bitsearch.load_data("digits", {}, split_seed=0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 10))
    quantized = bitsearch.quantize(network, example_input=digits.train[:64][0])
    quantized.project("4x")
    optimizer = torch.optim.Adam(quantized.parameter_groups(lr=5e-3))
    quantized.watch(optimizer)
    for epoch in range(4):
        for inputs, labels in bitsearch.batches(digits.train, 64, torch.Generator().manual_seed(epoch)):
            loss = nn.functional.cross_entropy(quantized(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    plan = quantized.plan("4x")
    quantized.eval()
    size = bitsearch.pack(quantized, digits.train[:64][0], "digits.packed", plan)
    packed = bitsearch.read("digits.packed")
    print(f"{packed}: {size} bytes")

    inputs, labels = digits.test[:]
    accuracy = (packed.replay()(inputs).argmax(1) == labels).float().mean().item()
    report = bitsearch.verify(packed, quantized, digits.train[:64][0], digits.test)
    spikes = sum(sum(layer.spikes) for layer in report.layers)
    print(f"test accuracy on integers {accuracy:.3f}; {spikes:,} spikes compared, equal: {report.equal}")
    return accuracy


if __name__ == "__main__":
    main()
