"""Half precision is for the products of training steps: how far it takes them, and what it leaves alone."""

import contextlib
import copy

import pytest
import torch
from spikingjelly.activation_based import neuron as spiking
from tolerances import rounding
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.methods.search_phase import search
from bitsearch.allocation.signals.fisher import Fisher
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.data import Splits
from bitsearch.layers import convert
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan
from bitsearch.task_settings import TaskSettings
from bitsearch.train import distillation, fabric
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import Callback, train
from bitsearch.train.precision import DTYPES, autocast, slowness
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks import make_learning_task
from bitsearch.training import Distillation, Training

HALF = sorted(DTYPES)
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:training.precision is:UserWarning")


@pytest.mark.parametrize("precision", HALF)
def test_products_and_their_gradients_are_as_near_as_half_precision_rounds(precision):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 6, 6, generator=generator).requires_grad_()
    # Of half precision, as a layer behind it would hand it back.
    slopes = torch.randn(4, 8, 4, 4, generator=generator).to(DTYPES[precision])
    torch.manual_seed(0)
    plan = {"0": LayerPlan(weight_bits=6, spike_bits=(6,), time_steps=1, signed_input=True)}
    layer = convert(nn.Sequential(nn.Conv2d(16, 8, 3)), plan)[0]
    seen = []
    layer.observer = lambda x, spikes, weight: seen.append((spikes.detach().double(), weight.detach().double()))
    with autocast(CPU, precision):
        y = layer(x)
    assert y.dtype == DTYPES[precision]
    y.backward(slopes)
    ((spikes, weight),) = seen
    assert layer.bias.grad.dtype == layer.weight.grad.dtype == x.grad.dtype == torch.float32
    inside_x = spikes.abs() < layer.spike_step[0].item() * 30.5
    inside_weight = weight.abs() < layer.weight_step.item() * 30.5
    wanted = [leaf.requires_grad_() for leaf in (spikes, weight, layer.bias.detach().double())]
    exact = F.conv2d(*wanted)
    gradients = torch.autograd.grad(exact, wanted, slopes.double())
    magnitudes = [leaf.detach().abs().requires_grad_() for leaf in wanted]
    largest = F.conv2d(*magnitudes)
    sizes = torch.autograd.grad(largest, magnitudes, slopes.double().abs())
    # Both operands and the result are rounded; what is added up, up to 4·16 or 16·9 terms and one, is float32.
    share = rounding(3, DTYPES[precision]) + rounding(16 * 9 + 1)
    # float16 has no smaller numbers than these.
    least = torch.finfo(DTYPES[precision]).smallest_normal * 16 * 9
    assert ((y.double() - exact).abs() <= share * largest + least).all()
    assert ((y.double() - exact).abs() > rounding(16 * 9 + 1) * largest).any()
    for got, exactly, size, inside in (
        (x.grad, gradients[0], sizes[0], inside_x),
        (layer.weight.grad, gradients[1], sizes[1], inside_weight),
        (layer.bias.grad, gradients[2], sizes[2], slice(None)),
    ):
        within = ((got.double() - exactly).abs() <= share * size + least)[inside]
        assert within.numel() > got.numel() / 2
        assert within.all()


@pytest.mark.parametrize("estimator", ["curvature", "probed"])
def test_what_decides_on_bits_is_measured_in_float32(splits, space, model, rules, estimator, monkeypatch, network):
    probed, dtypes = [], []

    def remember(self, calls, outputs, *rest, **options):
        probed.append(outputs.dtype)
        return backward(self, calls, outputs, *rest, **options)

    backward = Fisher._backward
    monkeypatch.setattr(Fisher, "_backward", remember)
    training = Training(epochs=1, batch_size=64, precision="bfloat16")
    session = TrainingSession(splits, training)
    budgets = [Budget.parse("8x", "bit_budget", model, space.baseline)]
    settings = Allocation(probe_every=2, estimator=estimator)
    problem = AllocationProblem(network, model, rules, session, space, settings, budgets, seed=0)
    quantized = make_learnable_copy(network, model, rules, space, settings)
    quantized.network[9].register_forward_pre_hook(lambda module, args: dtypes.append(args[0].dtype))
    search(quantized, problem, epochs=1)
    # Four batches are trained on; those of the probes are passes of their own.
    assert dtypes.count(torch.bfloat16) == 4
    assert len(probed) == 2 if estimator == "curvature" else len(probed) >= 1
    assert set(probed) == {torch.float32}


class FirstInput(nn.Module):
    """In front of a network: notes the dtype of what it is given, and of what its layers get then."""

    def __init__(self, network):
        super().__init__()
        self.network, self.given = network, []

    def forward(self, x):
        self.given.append(x)
        return self.network(x)


def test_inputs_and_targets_come_as_they_are(splits):
    """A first layer quantizes pixels, and a loss is measured on targets, with all of their digits."""
    network, targets = FirstInput(nn.Sequential(nn.Flatten(), nn.Linear(64, 1))), []
    values = torch.rand(128, 1, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(splits.train.tensors[0][:128], values)
    of_values = Splits(samples, samples, samples, splits.input_shape, 1)
    task = make_learning_task(TaskSettings(name="regression"), 1, 1)
    session = TrainingSession(of_values, Training(batch_size=128, precision="bfloat16"), task=task)
    train(network, session, epochs=1, seed=0, phase="", callbacks=[Targets(targets)])
    assert sorted(torch.cat(targets).flatten().tolist()) == sorted(values.flatten().tolist())
    assert network.given[0].dtype == torch.float32
    assert torch.isin(network.given[0], samples.tensors[0]).all()


class Targets(Callback):
    """Notes every part's targets."""

    def __init__(self, seen):
        self.seen = seen

    def part_loss(self, loss, inputs, outputs, labels):
        self.seen.append(labels)
        return loss


@pytest.mark.parametrize("precision", HALF)
def test_spiking_neurons_keep_their_membrane_in_float32(splits, precision):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), spiking.LIFNode(), nn.Linear(16, 10))
    got = []
    network[2].register_forward_hook(lambda module, args, spikes: got.append((args[0].dtype, module.v.dtype)))
    returned = []
    network[1].register_forward_hook(lambda module, args, current: returned.append(current.dtype))
    train(network, TrainingSession(splits, Training(batch_size=128, precision=precision)), epochs=1, seed=0, phase="")
    assert returned == [DTYPES[precision]] * 2
    assert got == [(torch.float32, torch.float32)] * 2
    assert not network[2]._forward_pre_hooks


@pytest.mark.parametrize("precision", HALF)
def test_a_teacher_is_asked_in_the_precision_of_the_training(trained, splits, batch, precision):
    asked = []
    trained = copy.deepcopy(trained)
    trained[9].register_forward_hook(lambda module, args, flat: asked.append(flat.dtype))
    settings = Training(batch_size=256, precision=precision, distillation=Distillation(features=("3",)))
    student = quantize(trained, batch[0][:8])
    student.fix(student.layer_plans)
    asked.clear()
    session = TrainingSession(splits, settings, teacher=trained)
    losses = []
    train(
        student,
        session,
        epochs=1,
        seed=0,
        phase="",
        callbacks=[*distillation.distillation(session, student.network), Losses(losses)],
    )
    # The student, and the teacher twice: of fewer samples too, to tell their axis.
    assert asked == [DTYPES[precision]] * 3
    assert losses == [torch.float32]


class Losses(Callback):
    """Notes the dtype of every part's loss."""

    def __init__(self, dtypes):
        self.dtypes = dtypes

    def part_loss(self, loss, inputs, outputs, labels):
        self.dtypes.append(loss.dtype)
        return loss


def test_a_training_goes_on_as_if_it_had_not_been_interrupted(trained, splits, tmp_path):
    ended = []
    for stop_after in (None, 1):
        network = copy.deepcopy(trained)
        kept = []

        def stop(stop_after=stop_after, kept=kept):
            kept.append(None)
            if len(kept) == stop_after:
                raise KeyboardInterrupt

        for _ in range(1 if stop_after is None else 2):
            path = tmp_path / f"{stop_after}.safetensors"
            with contextlib.suppress(KeyboardInterrupt), Checkpoint(path, "mine", after=stop) as checkpoint:
                session = TrainingSession(splits, Training(batch_size=64, precision="bfloat16"), checkpoints=checkpoint)
                train(network, session, epochs=2, seed=3, phase="")
            if stop_after is not None and len(kept) == stop_after:
                network = copy.deepcopy(trained)
        ended.append(network.state_dict())
    for name, value in ended[0].items():
        assert torch.equal(value, ended[1][name]), name


def test_one_seed_is_one_training_and_a_network_scores_alike_whatever_trained_it(trained, splits):
    networks = []
    for precision in ("bfloat16", "bfloat16", "float32"):
        network = copy.deepcopy(trained)
        scores = []
        session = TrainingSession(
            splits, Training(batch_size=64, precision=precision), lambda record, to=scores: to.append(record)
        )
        train(network, session, epochs=1, seed=5, phase="")
        assert session.score(network) == scores[0].validation_score == evaluate(network, splits.validation, 100)
        networks.append(network.state_dict())
    one, again, other = networks
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["0.weight"], other["0.weight"])


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("names", [(), ("avx2", "neon"), ("avx512_bf16", "avx512_fp16"), ("bf16", "fp16_arith")])
def test_a_processor_without_instructions_for_it_is_told(precision, names, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True), raising=False)
    said = slowness(CPU, precision)
    # Where nothing is known of the processor, nothing is said of it.
    assert (said is None) == (names != ("avx2", "neon"))
    assert slowness(CPU, "float32") is None
    if said is not None:
        assert said.startswith(f"training.precision is {precision}, for which cpu has no instructions here")
        with pytest.warns(UserWarning, match=said):
            fabric.make_fabric(CPU, precision)
