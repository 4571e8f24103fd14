import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from small_network import part
from torch import nn

from bitsearch.allocation_settings import Allocation
from bitsearch.data.targets import NO_LABEL
from bitsearch.errors import InputError
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.train.distillation import DistillationLoss, check_features, distillation, feature_error
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.loop import Callback
from bitsearch.train.session import TrainingSession
from bitsearch.training import Distillation, Training

MIXED = Distillation(weight=0.3, temperature=2.0)


def by_hand(student, teacher, settings):
    """τ² · Σ p · (log p − log q) in float64."""
    p, q = (log_softmax(logits.double().numpy() / settings.temperature, axis=-1) for logits in (teacher, student))
    return settings.temperature**2 * (np.exp(p) * (p - q)).sum()


def test_the_loss_is_the_published_one():
    torch.manual_seed(0)
    teacher, inputs, logits = nn.Linear(3, 4), torch.randn(5, 3), torch.randn(5, 4)
    loss = DistillationLoss(teacher, MIXED).part_loss(torch.tensor(7.0), inputs, logits, torch.zeros(5).long())
    expected = 0.7 * 7.0 + 0.3 * by_hand(logits, teacher(inputs).detach(), MIXED)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    student, inputs = copy.deepcopy(teacher).eval(), torch.randn(5, 3)
    both = DistillationLoss(teacher, Distillation(weight=1.0, temperature=3.0))
    loss = both.part_loss(torch.tensor(7.0), inputs, student(inputs), torch.zeros(5).long())
    loss.backward()
    assert abs(loss.item()) < 1e-5
    assert student[0].weight.grad.abs().max() < 1e-5
    # The teacher is asked in evaluation mode, learns nothing, and stays in the mode that it had.
    assert teacher.training
    assert teacher[0].weight.grad is None


def test_samples_that_only_fill_a_share_do_not_count():
    torch.manual_seed(0)
    teacher, inputs, logits = nn.Linear(3, 4), torch.randn(2, 3), torch.randn(2, 4)
    part_loss = DistillationLoss(teacher, Distillation(weight=1.0)).part_loss
    one = part_loss(torch.tensor(0.0), inputs[:1], logits[:1], torch.tensor([1]))
    assert torch.equal(one, part_loss(torch.tensor(0.0), inputs, logits, torch.tensor([1, NO_LABEL])))


def test_parts_of_a_batch_add_up_with_mixed_labels():
    torch.manual_seed(0)
    teacher, inputs, logits = nn.Linear(3, 4), torch.randn(6, 3), torch.randn(6, 4)
    labels, zero = torch.randint(0, 4, (6, 2)), torch.tensor(0.0)
    part_loss = DistillationLoss(teacher, MIXED).part_loss
    parts = sum(part_loss(zero, inputs[rows], logits[rows], labels[rows]) for rows in (slice(2), slice(2, 6)))
    torch.testing.assert_close(parts, part_loss(zero, inputs, logits, labels))


class Watch(Callback):
    """The gradients of every step."""

    def __init__(self, network):
        self.network, self.gradients = network, []

    def after_step(self):
        self.gradients.append(torch.cat([p.grad.flatten() for p in self.network.parameters() if p.grad is not None]))


def tuned(network, splits, batch, training, teacher):
    quantized = quantize(network, batch[0][:32], start=UniformBits(weight_bits=2, spike_bits=2, time_steps=1))
    watch, records = Watch(quantized), []
    session = TrainingSession(splits, training, records.append, teacher=teacher)
    plan = quantized.layer_plans
    train_at_plan(
        quantized, plan, session, Allocation(), epochs=1, seed=0, phase="fine-tune", callbacks=lambda: [watch]
    )
    return watch.gradients, records


def test_fine_tuning_learns_from_the_teacher_and_reports_the_tasks_loss(network, splits, batch):
    few = splits.__class__(part(splits.train, 64), part(splits.validation, 20), None, splits.input_shape, 10)
    plain = Training(batch_size=64)
    with_it = plain.model_copy(update={"distillation": Distillation(weight=0.5)})
    off = plain.model_copy(update={"distillation": Distillation(weight=0.0)})
    runs = [tuned(network, few, batch, training, copy.deepcopy(network)) for training in (plain, off, with_it)]
    gradients = [gradients[0] for gradients, _ in runs]
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])
    # One batch an epoch: the loss that is told is that of the labels, before the step.
    assert runs[0][1][0].loss == runs[2][1][0].loss


def test_without_a_teacher_it_is_one_line(splits):
    training = Training(distillation=Distillation())
    with pytest.raises(
        InputError, match="there is none here; give a plan inside its run folder, or set training"
    ) as said:
        distillation(TrainingSession(splits, training), nn.Identity())
    assert "\n" not in str(said.value)
    assert distillation(TrainingSession(splits, Training()), nn.Identity()) == []


def test_a_teacher_whose_weight_an_old_hook_has_computed_is_copied():
    torch.manual_seed(0)
    with pytest.warns(FutureWarning):
        teacher = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)))
    inputs = torch.randn(5, 3)
    logits = teacher(inputs)
    both = DistillationLoss(teacher, Distillation(weight=1.0, temperature=1.0))
    changed = torch.randn(5, 4)
    loss = both.part_loss(torch.tensor(0.0), inputs, changed, torch.zeros(5).long())
    assert loss.item() == pytest.approx(by_hand(changed, logits.detach(), Distillation(temperature=1.0)), rel=1e-5)


def test_the_error_of_a_feature_is_in_proportion_to_it():
    expected, returned = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 9.0], [1.0, 2.0]])
    errors = feature_error(expected, returned)
    assert errors.tolist() == [1.0, 0.0]
    assert torch.equal(feature_error(expected[:1] * 1e6, returned[:1] * 1e6), errors[:1])


class Spread(nn.Module):
    """A layer whose samples are the first or the second axis, or folded behind frames, and an activation in place."""

    def __init__(self, layout):
        super().__init__()
        torch.manual_seed(5)
        self.layout, self.inner, self.relu, self.outer = layout, nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, x):
        if self.layout != "samples":
            x = torch.stack([x, 2 * x, 3 * x])
        y = self.relu(self.inner(x.flatten(0, 1) if self.layout == "folded" else x))
        y = y.unflatten(0, (3, -1)) if self.layout == "folded" else y
        return self.outer(y if self.layout == "samples" else y.mean(0))


@pytest.mark.parametrize("layout", ["samples", "frames", "folded"])
def test_features_are_compared_before_what_writes_over_them(layout):
    teacher, student, inputs = Spread(layout), Spread(layout), torch.randn(5, 3)
    with torch.no_grad():
        student.inner.bias += 0.5
        student.inner.weight[1] *= 2
    labels = torch.tensor([0, 1, NO_LABEL, 1, 0])
    settings = Distillation(weight=0.6, temperature=2.0, features=("inner",))

    def distance(*rows):
        both = DistillationLoss(teacher, settings, student=student)
        both.before_batch(inputs)
        losses = [both.part_loss(torch.tensor(0.0), inputs[r], student(inputs[r]), labels[r]) for r in rows]
        both.after_step()
        assert not student.inner._forward_hooks
        return sum(losses)

    frames = [inputs] if layout == "samples" else [inputs, 2 * inputs, 3 * inputs]
    expected, returned = (
        torch.cat([network.inner(x) for x in frames], 1).detach().double().numpy()[labels >= 0]
        for network in (teacher, student)
    )
    error = (((returned - expected) ** 2).sum(1) / (expected**2).sum(1)).sum()
    counted = inputs[labels >= 0]
    by_outputs = by_hand(student(counted).detach(), teacher(counted).detach(), settings)
    whole = distance(slice(0, 5))
    assert whole.item() == pytest.approx(0.6 * (error + by_outputs), rel=1e-5)
    torch.testing.assert_close(distance(slice(0, 2), slice(2, 5)), whole)
    whole.backward()
    assert student.inner.weight.grad.abs().sum() > 0


def test_fine_tuning_brings_features_near_to_the_teachers(network, splits, batch):
    few = splits.__class__(part(splits.train, 64), part(splits.validation, 20), None, splits.input_shape, 10)
    trained = []
    for features in ((), ("3",), ("3", "6")):
        settings = Distillation(weight=1.0, features=features)
        teacher = copy.deepcopy(network)
        trained.append(tuned(network, few, batch, Training(batch_size=64, distillation=settings), teacher)[0][0])
    assert not torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[1], trained[2])


def test_features_that_cannot_be_compared_are_refused_by_name(network):
    def message(name):
        with pytest.raises(InputError) as said:
            check_features(network, Distillation(features=(name,)))
        return str(said.value)

    assert "features names 'layer', and the network has no such module; bitsearch profile lists" in message("layer")
    assert message("33").endswith("no such module; did you mean '3'?")
    assert "features names '2', a ReLU, in place of which layers behind it fire; name a layer" in message("2")
    check_features(network, Distillation(features=("3", "4")))
    check_features(network, None)


def test_a_feature_of_another_shape_is_told_by_name():
    class Never(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.spare = nn.Linear(3, 2)

    student = Never()
    both = DistillationLoss(Never(), Distillation(features=("spare",)), student=student)
    both.before_batch(torch.ones(2, 3))
    with pytest.raises(InputError, match="'spare' returns nothing, and in full precision nothing; name one that"):
        both.part_loss(torch.tensor(0.0), torch.ones(2, 3), student(torch.ones(2, 3)), torch.zeros(2).long())
