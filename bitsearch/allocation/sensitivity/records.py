"""What a measurement of sensitivities is: one row for every value of every number of every layer, and its file."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd
from pydantic import Field, ValidationError

from bitsearch.choices import Shared
from bitsearch.errors import InputError
from bitsearch.files import csv_text, read_text, write_whole
from bitsearch.plan import LayerPlan
from bitsearch.score import Score
from bitsearch.validation import Count, Frozen, Name, Seed, explain

SYMBOLS: dict[Shared, str] = {"weight_bits": "w", "spike_bits": "s", "time_steps": "T", "membrane_bits": "m"}
"""What tables call a number; that of a layer's membranes is their width."""
NUMBERS = tuple(SYMBOLS)
"""All that is measured."""


class WidthLoss(Frozen):
    """What one number of one layer does to the loss at one value, all else at its finest."""

    layer: Name
    tied: tuple[Name, ...] = ()
    """Other layers that have the number in common, and change with it."""
    number: Shared
    value: Count
    increase: float = Field(allow_inf_nan=False)
    """Mean loss of a sample minus that of the network at its finest."""
    standard_error: float | None = Field(ge=0, allow_inf_nan=False)
    """Of :attr:`increase`, paired over the samples; None of one sample."""
    divergence: float = Field(allow_inf_nan=False)
    """By how far predictions change, as the loss has it: in nats a sample for cross-entropy. It needs no labels."""
    predicted: float | None = Field(allow_inf_nan=False)
    """Increase by the Fisher's loss model; None of averaged frames, which no local model predicts."""
    score: float | None = Field(allow_inf_nan=False)
    """Of the network so changed; None of a score that is no sum over samples."""
    cause: Name
    levels: Count
    clipping: float = Field(ge=0, allow_inf_nan=False)
    rounding: float = Field(ge=0, allow_inf_nan=False)
    binning: float = Field(ge=0, allow_inf_nan=False)
    silent: float | None = Field(ge=0, le=1)
    saturated: float | None = Field(ge=0, le=1)


class Sensitivities(Frozen):
    """Sensitivities of a trained network's layers; ``sensitivity.json``.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 2}, input_shape=(1, 8, 8), classes=10)
    >>> sensitivities = bitsearch.sensitivity(network, bitsearch.load_data("digits", {}, split_seed=0), samples=8)
    >>> sensitivities.table().columns[:3].tolist()
    ['layer', 'tied', 'number']
    """

    schema_version: int = Field(default=1, ge=1, le=1)
    space: Name
    network: Name
    score_kind: Score
    """What the scores are."""
    samples: Count
    """Of the validation split."""
    seed: Seed
    loss: float = Field(allow_inf_nan=False)
    """Mean loss of a sample at the finest bits."""
    score: float | None = Field(allow_inf_nan=False)
    finest: dict[Name, LayerPlan]
    """The bits that every layer has while another one is changed."""
    widths: tuple[WidthLoss, ...]
    bitsearch: Name
    command: str

    @property
    def layers(self) -> list[str]:
        """Layers that have rows, worst first: by the mean increase over their rows."""
        names = dict.fromkeys(row.layer for row in self.widths)
        return sorted(names, key=lambda name: -fmean(row.increase for row in self.of(name)))

    def of(self, layer: str, number: Shared | None = None) -> list[WidthLoss]:
        """A layer's rows, of one number or of all, in ascending order of its values."""
        rows = [row for row in self.widths if row.layer == layer and number in (None, row.number)]
        return sorted(rows, key=lambda row: (NUMBERS.index(row.number), row.value))

    def worst(self, layer: str) -> WidthLoss:
        """The row of a layer that adds most to the loss."""
        return max(self.of(layer), key=lambda row: row.increase)

    def table(self) -> pd.DataFrame:
        """One line a row, worst layers first."""
        rows = [row.model_dump() | {"tied": " ".join(row.tied)} for name in self.layers for row in self.of(name)]
        return pd.DataFrame(rows, columns=list(WidthLoss.model_fields))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, json.dumps(self.model_dump(mode="json"), indent=1) + "\n")

    def save_csv(self, path: Path) -> None:
        """Write :meth:`table`."""
        write_whole(path, csv_text(self.table()))

    @classmethod
    def load(cls, path: Path) -> "Sensitivities":
        """Read the file; InputError if it is not what :meth:`save` wrote."""
        try:
            return cls.model_validate_json(read_text(path, "sensitivities"))
        except ValidationError as error:
            raise InputError(f"{path}: {explain(error, cls)}; measure it anew with `bitsearch sensitivity`") from error


def standard_error(differences: Sequence[float]) -> float | None:
    """Of their mean, with n − 1 degrees of freedom; None of one."""
    count = len(differences)
    if count < 2:
        return None
    mean = math.fsum(differences) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (count - 1) / count)
