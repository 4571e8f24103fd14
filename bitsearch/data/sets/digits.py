"""scikit-learn's handwritten digits: 1,797 real 8×8 images (UCI, Alpaydin and Kaynak 1998), nothing to download."""

import numpy as np
import torch
from torch.utils.data import TensorDataset

from bitsearch.data.data_set import DataSet
from bitsearch.data.splits import Splits


def digits(*, split_seed: int = 0) -> Splits:
    """60 % train, 20 % validation, 20 % test, stratified by class.

    Inputs ``[1, 8, 8]``, normalized with the mean and standard deviation of the training split.
    """
    # Imported where it is needed: it takes a second that no other data set has to spend.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    indices = split_indices(labels, split_seed)
    inputs = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)
    mean, deviation = inputs[indices["train"]].mean(), inputs[indices["train"]].std()
    inputs = (inputs - mean) / deviation
    targets = torch.tensor(labels)
    parts = {name: TensorDataset(inputs[part], targets[part]) for name, part in indices.items()}
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        input_shape=(1, 8, 8),
        classes=10,
        class_names=tuple("0123456789"),
        mean=(float(mean),),
        deviation=(float(deviation),),
    )


def split_indices(labels: np.ndarray, split_seed: int) -> dict[str, np.ndarray]:
    """Indices of the digits in ``train``, ``validation`` and ``test``."""
    from sklearn.model_selection import train_test_split

    index, seed = np.arange(len(labels)), split_seed % 2**32
    remainder, test = train_test_split(index, test_size=0.2, stratify=labels, random_state=seed)
    train, validation = train_test_split(remainder, test_size=0.25, stratify=labels[remainder], random_state=seed)
    return {"train": train, "validation": validation, "test": test}


DIGITS = DataSet(
    "digits",
    digits,
    "handwritten digits, part of scikit-learn",
    shape="1×8×8",
    classes=10,
    counts={"all": (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)},
)
