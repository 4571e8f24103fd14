"""A label at every place of a sequence: logits ``[N, classes, L]``."""

from bitsearch.score import Score
from bitsearch.train.tasks.dense import Segmentation


class Sequence(Segmentation):
    """Cross-entropy per place; the share of places whose label is right."""

    metrics = {"accuracy": ("MulticlassAccuracy", Score(name="label accuracy"), {"average": "micro"})}
