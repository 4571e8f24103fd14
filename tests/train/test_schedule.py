"""The closed forms against the schedulers of torch that they are."""

import pytest
import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as schedulers

from bitsearch.train.schedule import make_schedule, weights_factor
from bitsearch.training import Training

STEPS = 40


def rates_of(make, steps=STEPS):
    """The rates at every step, from a rate of 1, by a scheduler of torch."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def factors_of(training, steps=STEPS, steps_an_epoch=10):
    factor = weights_factor(training, steps, steps_an_epoch)
    return [factor(step) for step in range(steps)]


REFERENCES = {
    "cosine": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, STEPS),
    "one_cycle": lambda optimizer: schedulers.OneCycleLR(optimizer, 1.0, STEPS, cycle_momentum=False),
    "multi_step": lambda optimizer: schedulers.MultiStepLR(optimizer, [20, 30]),
    "constant": lambda optimizer: schedulers.ConstantLR(optimizer, factor=1.0),
}


@pytest.mark.parametrize("schedule", REFERENCES)
def test_a_schedule_is_torchs(schedule):
    assert factors_of(Training(schedule=schedule)) == pytest.approx(rates_of(REFERENCES[schedule]), rel=1e-9, abs=1e-12)


def test_milestones_are_shares_of_the_training():
    expected = rates_of(lambda optimizer: schedulers.MultiStepLR(optimizer, [4, 36], gamma=0.5))
    assert factors_of(Training(schedule="multi_step", milestones=(0.1, 0.9), gamma=0.5)) == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "warm"), [(1.0, 10), (0.5, 5), (3.0, 20)])
def test_a_warm_up_comes_first_and_takes_at_most_half(epochs, warm):
    expected = rates_of(
        lambda optimizer: schedulers.SequentialLR(
            optimizer,
            [
                schedulers.LinearLR(optimizer, 1 / (warm + 1), total_iters=warm),
                schedulers.CosineAnnealingLR(optimizer, STEPS - warm),
            ],
            [warm],
        )
    )
    assert factors_of(Training(warm_up=epochs)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", REFERENCES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_few_steps_has_rates(schedule, steps):
    training = Training(schedule=schedule, warm_up=0.0 if schedule == "one_cycle" else 1.0)
    factor = weights_factor(training, steps, steps)
    assert all(0.0 <= factor(step) <= 1.0 for step in range(steps + 1))


def test_while_bits_move_the_rate_stays_and_latents_have_their_own():
    weight, latent = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = SGD([{"params": [weight], "lr": 0.5}, {"params": [latent], "lr": 0.1, "latents": True}])
    schedule = make_schedule(optimizer, Training(warm_up=1.0), steps=10, steps_an_epoch=5, anneal=False)
    rates = []
    for _ in range(10):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [rate for rate, _ in rates] == [0.5] * 10
    assert [rate for _, rate in rates] == pytest.approx([0.1] * 6 + [0.082, 0.064, 0.046, 0.028])
