"""The samples that rivals train on: the three parts of a space's data in a file that needs no bitsearch to be read.

python -m benchmarks.rivals.samples --set data_options.root=/usr/share/datasets/fashion-mnist --out samples.npz
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitsearch.space import SearchSpace
from bitsearch.train.task import load_task


def multiplications(network: nn.Module, example: Tensor) -> list[float]:
    """Of every convolution and linear layer for one input ``[1, ...]``, those with padding left out, as in EBOPs."""
    counted: list[float] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ones = copy.deepcopy(module)
        nn.init.ones_(ones.weight)
        ones.bias = None
        counted.append(float(ones.forward(torch.ones_like(inputs[0])).sum()))

    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network.eval()(example)
    for hook in hooks:
        hook.remove()
    return counted


def main() -> None:
    """Write ``PART_x`` (``[N, H, W, C]``), ``PART_y`` and ``baseline``, the bit operations of the space's baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="fashion_mnist_cnn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    space = SearchSpace.load(arguments.space).override(arguments.set)
    task = load_task(space, seed=0)
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "validation", "test"):
        samples = task.splits.split(part)
        inputs, labels = zip(*DataLoader(samples, batch_size=1000), strict=True)
        arrays[f"{part}_x"] = torch.cat(inputs).permute(0, 2, 3, 1).numpy()
        arrays[f"{part}_y"] = torch.cat(labels).numpy().astype(np.int32)
    bits = space.baseline.weight_bits * space.baseline.spike_bits * space.baseline.time_steps
    arrays["baseline"] = np.array(bits * sum(multiplications(task.fresh_network(), inputs[0][:1])))
    np.savez(arguments.out, **arrays)
    print({name: array.shape for name, array in arrays.items()}, float(arrays["baseline"]))


if __name__ == "__main__":
    main()
