"""Losses that a program has as torch's modules are the settings that stand for them, and compute what these do."""

import pytest
import torch
from torch import nn

from bitsearch.errors import InputError
from bitsearch.task_settings import TaskSettings
from bitsearch.train.tasks import make_learning_task
from bitsearch.train.tasks.criterion import criterion_settings

LOSSES = [
    ("classification", nn.CrossEntropyLoss(label_smoothing=0.2)),
    ("classification", nn.CrossEntropyLoss()),
    ("segmentation", nn.CrossEntropyLoss(label_smoothing=0.1)),
    ("multi_label", nn.BCEWithLogitsLoss()),
    ("regression", nn.MSELoss()),
    ("regression", nn.L1Loss()),
    ("regression", nn.HuberLoss()),
    ("regression", nn.SmoothL1Loss(reduction="none")),
]


@pytest.mark.parametrize(("task", "loss"), LOSSES)
def test_the_settings_compute_what_the_module_does(task, loss):
    generator = torch.Generator().manual_seed(0)
    shape = (5, 4, 3, 3) if task == "segmentation" else (5, 4)
    outputs = 2 * torch.randn(shape, generator=generator)
    classes = torch.randint(4, (5, *shape[2:]), generator=generator)
    numbers = torch.randn(shape, generator=generator)
    targets = {"multi_label": (numbers > 0).float(), "regression": numbers}.get(task, classes)
    settings = TaskSettings.model_validate({"name": task} | criterion_settings(loss))
    made = make_learning_task(settings, 4, targets.dim() - 1).loss
    torch.testing.assert_close(made.summed(outputs, targets) / 5, loss(outputs, targets).mean())


def test_class_weights_and_an_ignored_label_are_kept():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), ignore_index=255)
    assert criterion_settings(loss) == {"loss": "cross_entropy", "class_weights": (1.0, 2.0), "ignored_label": 255}


def test_a_class_is_its_default_and_a_function_is_left_as_it_is():
    assert criterion_settings(nn.CrossEntropyLoss) == {"loss": "cross_entropy"}
    assert criterion_settings(nn.functional.cross_entropy) is None
    assert criterion_settings("cross_entropy") is None
    assert criterion_settings(None) is None


class Own(nn.CrossEntropyLoss):
    pass


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (nn.HuberLoss(delta=2.0), "HuberLoss has delta=2.0, which no setting stands for"),
        (nn.SmoothL1Loss(beta=0.5), "SmoothL1Loss has beta=0.5"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), "BCEWithLogitsLoss has pos_weight=tensor("),
        (nn.BCEWithLogitsLoss(weight=torch.ones(2)), "BCEWithLogitsLoss has weight=tensor("),
        (nn.MSELoss(reduction="sum"), "MSELoss has reduction=sum"),
        (nn.CTCLoss(), "loss CTCLoss is a module, which no settings stand for; known: nn.CrossEntropyLoss"),
        (Own(), "loss Own is a module"),
    ],
)
def test_what_no_settings_stand_for_is_refused(loss, said):
    with pytest.raises(InputError, match="function") as caught:
        criterion_settings(loss)
    assert said in str(caught.value)
