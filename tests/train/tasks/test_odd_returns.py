"""What a user's loss and metric return late in a run, and cannot be used: one line, wherever it is read."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.errors import InputError
from bitsearch.score import Score
from bitsearch.train.evaluate import score_row
from bitsearch.train.predict import LOGITS
from bitsearch.train.tasks.losses import OwnLoss
from bitsearch.train.tasks.scores import OwnScore

SCORE = Score(name="own", share=False)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", ["loss", "metric"])
def test_a_nested_tensor_is_named(kind):
    outputs, targets = torch.rand(4, 3), torch.rand(4, 3)

    def nested(outputs, targets):
        return torch.nested.nested_tensor([outputs[0]])

    call = OwnLoss(nested, "mine").summed if kind == "loss" else OwnScore(nested, SCORE, "mine").states
    with pytest.raises(InputError, match=f"task.{kind} 'mine' returned no dense tensor for 4 samples"):
        call(outputs, targets)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_of_numbers_that_are_not_finite_is_refused(value):
    task = type("Task", (), {"scoring": OwnScore(lambda x, y: x.mean(1) * value, SCORE, "mine"), "form": LOGITS})
    samples = TensorDataset(torch.rand(8, 6), torch.rand(8, 3))
    with pytest.raises(InputError, match=r"the own is (nan|inf|-inf) on 8 samples; a metric has to be a finite number"):
        score_row(nn.Linear(6, 3), samples, 4, task)
