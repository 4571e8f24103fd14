"""Losses and the slopes that are drawn of them, against Hessians that autograd forms in float64."""

import pytest
import torch
from torch.nn import functional as F

from bitsearch.data.targets import absent
from bitsearch.task_settings import TaskSettings
from bitsearch.train.tasks import make_learning_task

SAMPLES, CLASSES = 3, 4
IGNORED = 9


def task(name, classes=CLASSES, axes=0, **settings):
    return make_learning_task(TaskSettings(name=name, **settings), classes, axes)


def outputs(*shape):
    return torch.randn(SAMPLES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 1])
MAPS = torch.tensor([[0, IGNORED], [3, 2], [1, 1]])
VALUES = torch.tensor([[0.1, -3.0], [0.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
FLAGS = torch.tensor([[0, 1], [1, 1], [0, 0]])

CASES = {
    "cross-entropy": (task("classification"), (CLASSES,), LABELS),
    "class weights": (task("classification", class_weights=(1.0, 2.0, 0.5, 3.0)), (CLASSES,), LABELS),
    "every step": (task("classification", loss="tet"), (2, CLASSES), LABELS),
    "firing rates": (task("classification", loss="mse_rate"), (CLASSES,), LABELS),
    "dense": (task("segmentation", axes=1, ignored_label=IGNORED), (CLASSES, 2), MAPS),
    "labels": (task("multi_label", 2, 1), (2,), FLAGS),
    "squared": (task("regression", 2, 1), (2,), VALUES),
    "huber": (task("regression", 2, 1, loss="huber"), (2,), VALUES),
}


@pytest.mark.parametrize("name", CASES)
def test_slopes_have_the_hessian_as_their_second_moment(name):
    """Over all signs of one sample the mean of v·vᵀ is exactly the Hessian of its loss in its outputs."""
    one, shape, targets = CASES[name]
    given, size = outputs(*shape), torch.Size(shape).numel()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * size)
    for index in range(SAMPLES):
        x, y = given[index : index + 1], targets[index : index + 1]
        expected = torch.autograd.functional.hessian(
            lambda flat, y=y: one.loss.summed(flat.view(1, *shape), y), x.flatten()
        )
        count = len(signs)
        slopes = one.loss.slopes(x.expand(count, *shape), y.expand(count, *y.shape[1:]), signs.view(count, *shape))
        found = slopes.flatten(1).T @ slopes.flatten(1) / count
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name != "class weights"])
def test_a_small_change_diverges_by_half_of_its_square_in_the_hessian(name):
    """KL, mean squared change and so on: v·H·v / 2, where the loss's Hessian is that of its outputs' distribution."""
    one, shape, targets = CASES[name]
    given = outputs(*shape)
    if name in ("dense", "huber"):
        # Those count positions, or errors, by their targets, of which a divergence knows nothing.
        targets = torch.zeros_like(targets) if name == "dense" else given.clone()
    change = 1e-4 * outputs(*shape).flip(0)
    hessian = torch.autograd.functional.hessian(
        lambda flat: one.loss.summed(flat.view(SAMPLES, *shape), targets), given.flatten()
    )
    expected = change.flatten() @ hessian @ change.flatten() / 2
    found = one.loss.divergence(given, given + change)
    assert found == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_the_losses_of_single_samples_are_those_of_batches_of_one(name):
    one, shape, targets = CASES[name]
    given = outputs(*shape)
    each = one.loss.each(given, targets)
    alone = [float(one.loss.summed(given[i : i + 1], targets[i : i + 1])) for i in range(SAMPLES)]
    assert each.shape == (SAMPLES,)
    assert each.tolist() == pytest.approx(alone, rel=1e-12)
    assert float(each.sum()) == pytest.approx(float(one.loss.summed(given, targets)), rel=1e-12)


def test_losses_are_those_of_torch():
    x = outputs(CLASSES)
    summed = {
        "cross-entropy": F.cross_entropy(x, LABELS, reduction="sum"),
        "class weights": F.cross_entropy(
            x, LABELS, torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64), reduction="sum"
        ),
        "firing rates": F.mse_loss(x, F.one_hot(LABELS, CLASSES).double()) * SAMPLES,
    }
    for name, expected in summed.items():
        assert CASES[name][0].loss.summed(x, LABELS) == pytest.approx(float(expected))
    steps = outputs(2, CLASSES)
    expected = sum(F.cross_entropy(steps[:, t], LABELS, reduction="sum") for t in range(2)) / 2
    assert CASES["every step"][0].loss.summed(steps, LABELS) == pytest.approx(float(expected))
    pixels = outputs(CLASSES, 2)
    by_hand = -pixels.log_softmax(1).gather(1, MAPS.where(MAPS != IGNORED, 0).unsqueeze(1)).squeeze(1)
    expected = by_hand[MAPS != IGNORED].sum() / 2
    assert CASES["dense"][0].loss.summed(pixels, MAPS) == pytest.approx(float(expected))
    numbers = outputs(2)
    assert CASES["squared"][0].loss.summed(numbers, VALUES) == pytest.approx(float(((numbers - VALUES) ** 2).sum() / 2))
    absolute = task("regression", 2, 1, loss="l1").loss.summed(numbers, VALUES)
    assert absolute == pytest.approx(float((numbers - VALUES).abs().sum() / 2))
    smoothed = task("classification", label_smoothing=0.1).loss.summed(x, LABELS)
    assert smoothed == pytest.approx(float(F.cross_entropy(x, LABELS, label_smoothing=0.1, reduction="sum")))
    shares = torch.softmax(outputs(CLASSES).flip(0), 1)
    soft = task("classification", loss="soft_cross_entropy").loss.summed(x, shares)
    assert soft == pytest.approx(float(F.cross_entropy(x, shares, reduction="sum")))


@pytest.mark.parametrize("name", CASES)
def test_what_another_process_counts_adds_nothing(name):
    one, shape, targets = CASES[name]
    given = outputs(*shape)
    expected = one.loss.summed(given, targets)
    more = torch.cat([targets, absent(targets[:1])])
    assert one.loss.summed(torch.cat([given, 5 + given[:1]]), more) == pytest.approx(float(expected))


def own_loss(outputs, targets):
    return ((outputs - targets) ** 4).sum(1)


def flat_loss(outputs, targets):
    return (outputs - targets).abs().sum(1)


def test_a_loss_of_ones_own_has_its_own_hessian():
    settings = {"loss": f"{__name__}:own_loss", "metric": "MeanSquaredError"}
    one, x = task("own", 2, 1, **settings), outputs(2)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2)
    slopes = one.loss.slopes(x[:1].expand(4, 2), VALUES[:1].expand(4, 2), signs)
    expected = torch.diag(12 * (x[0] - VALUES[0]) ** 2)
    assert torch.allclose(slopes.T @ slopes / 4, expected)


def test_a_loss_without_curvature_falls_back_to_its_own_gradients_and_says_so():
    settings = {"loss": f"{__name__}:flat_loss", "metric": "MeanSquaredError"}
    one, x = task("own", 2, 1, **settings), outputs(2)
    with pytest.warns(UserWarning, match="has no Hessian here; its bits are weighed by the empirical Fisher"):
        slopes = one.loss.slopes(x, VALUES, torch.ones_like(x))
    assert torch.equal(slopes, (x - VALUES).sign())
