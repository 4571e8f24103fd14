"""Networks that return a dict, a tuple or a named tuple: the task says which part is meant."""

from typing import NamedTuple

import pytest
import torch

from bitsearch.errors import InputError
from bitsearch.task_settings import TaskSettings
from bitsearch.train.tasks import output_form


class Pair(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


LOGITS = torch.arange(6.0).view(2, 3)
FEATURES = torch.zeros(2, 5)


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ({"features": FEATURES, "logits": LOGITS}, "logits"),
        (Pair(FEATURES, LOGITS), "logits"),
        ((FEATURES, LOGITS), 1),
        ([FEATURES, LOGITS], -1),
    ],
)
def test_the_part_that_is_named_is_read(output, part):
    form = output_form(TaskSettings(output=part))
    assert torch.equal(form.read(output, "the network"), LOGITS)
    with pytest.raises(InputError, match=r"has no part 'logit' \(task\.output\)"):
        output_form(TaskSettings(output="logit")).read(output, "the network")
    with pytest.raises(InputError, match=r"task\.output names the part that is meant"):
        output_form(TaskSettings()).read(output, "the network")


def test_time_steps_are_averaged_or_kept():
    steps = torch.stack([LOGITS, 3 * LOGITS])
    assert torch.equal(output_form(TaskSettings()).read(steps, "the network"), 2 * LOGITS)
    assert torch.equal(output_form(TaskSettings(loss="tet")).read(steps, "the network"), steps.transpose(0, 1))


def test_one_number_a_sample_needs_no_axis():
    form = output_form(TaskSettings(name="regression"))
    assert form.read(torch.zeros(4), "the network").shape == (4, 1)
