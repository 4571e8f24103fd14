"""Plans for several budgets of a trained network, from a few hundred samples and without training."""

import itertools

import torch
from torch import nn

import bitsearch


def main() -> bitsearch.SearchResult:
    digits = bitsearch.load_data("digits", {}, split_seed=0)
    torch.manual_seed(0)
    sizes = (64, 24, 96, 48)
    hidden = [part for ends in itertools.pairwise(sizes) for part in (nn.Linear(*ends), nn.ReLU())]
    network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(48, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for epoch in range(6):  # yours is trained already
        for inputs, labels in bitsearch.batches(digits.train, 64, torch.Generator().manual_seed(epoch)):
            loss = nn.functional.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    # One scoring of the network, an integer program for each budget, and a calibration of each plan.
    result = bitsearch.allocate(network, digits, ["1.5x", "2x"], samples=128, iterations=10, out="reports/minutes")
    print(result.sweep.T)
    return result


if __name__ == "__main__":
    main()
