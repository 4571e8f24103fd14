r"""The network that a measurement starts from, trained as its owner would: stopped at any time, and gone on with.

    python -m benchmarks.evidence.full_precision --space cifar10_folder --set data_options.root=ROOT \
        --set training.full_precision_epochs=30 --set training.optimizer=sgd --set training.nesterov=true \
        --set training.learning_rate=0.1 --set training.weight_decay=5e-4 --set training.warm_up=2 \
        --set training.precision=bfloat16 --out resnet20.safetensors

Prints the score on validation after every epoch; the test split is not read. What is written can be given as a space's
``weights``, then with ``training.full_precision_epochs=0``.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.evidence.runs import progress
from bitsearch.layers.weights import save_weights
from bitsearch.space import SearchSpace
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import load_task


def tell(record: EpochRecord) -> None:
    """A line an epoch."""
    score = f"validation {100 * record.validation_score:.2f} %"
    progress(f"epoch {record.epoch} of {record.epochs}: loss {record.loss:.4f}, {score}")


def main() -> None:
    """Train what is left, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    task = load_task(space, seed=arguments.seed)
    # Convolutions of channels that lie side by side are a quarter faster on CPUs.
    network = task.fresh_network().to(memory_format=torch.channels_last)
    with Checkpoint(
        arguments.out.with_suffix(".unfinished"), f"{space.training} {arguments.seed}", misfit=progress
    ) as checkpoint:
        session = TrainingSession(
            task.splits, space.training, on_epoch=tell, checkpoints=checkpoint, task=task.learning_task
        )
        epochs = space.training.full_precision_epochs
        train(network, session, epochs=epochs, seed=arguments.seed, phase="full precision")
    save_weights(network, arguments.out)


if __name__ == "__main__":
    main()
