import pytest
import torch
from spikingjelly.activation_based import layer as spiking
from tolerances import rounding, summed
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bitsearch.choices import Choices, Span
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan
from bitsearch.quant.frames import bin_frames, hold_frames
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.quant.renewal import renew_step

FRAMES = 6


def plan(time_steps=3, bits=4, **options):
    return LayerPlan(weight_bits=8, spike_bits=(bits,) * time_steps, time_steps=time_steps, frames=FRAMES, **options)


def layer(kind=nn.Conv2d, time_steps=3, searched=False, **options):
    torch.manual_seed(0)
    made = kind(4, 3, 3, padding=1) if "Conv" in kind.__name__ else kind(4, 3)
    choices = Choices(time_steps=Span(low=1, high=FRAMES))
    network = nn.Sequential(made)
    return convert(network, {"0": plan(time_steps, **options)}, {"0": choices} if searched else None)[0]


def frames(seed=0, batch=2, shape=(4, 5, 5)):
    return torch.rand(FRAMES, batch, *shape, generator=torch.Generator().manual_seed(seed))


CASES = [
    (nn.Conv1d, (4, 5)),
    (nn.Conv2d, (4, 5, 5)),
    (nn.Conv3d, (4, 3, 4, 4)),
    (nn.Linear, (4,)),
    (nn.Linear, (7, 4)),
    (spiking.Conv2d, (4, 5, 5)),
    (spiking.Linear, (4,)),
]


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("time_steps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_folded_time_axis_is_the_same(kind, shape, time_steps, batch):
    x = frames(batch=batch, shape=shape)
    unfolded = layer(kind, time_steps)(x)
    folded = layer(kind, time_steps)(x.flatten(0, 1))
    assert unfolded.shape[:2] == (FRAMES, batch)
    torch.testing.assert_close(folded, unfolded.flatten(0, 1), **summed(64, 2.0))


@pytest.mark.parametrize("time_steps", [1, 2, 3, 4, 6])
def test_the_result_is_that_of_the_bins_held_over_their_frames(time_steps):
    x, quantized = frames(), layer(time_steps=time_steps, decay=0.5)
    found = quantized(x)
    binned = bin_frames(x, time_steps)
    residual, results = 0.0, []
    for t in range(time_steps):
        membrane = binned[t] + 0.5 * residual
        step = quantized.spike_step[t]
        spikes = (membrane / step).round().clamp(0, 15) * step
        residual = membrane - spikes
        results.append(F.conv2d(spikes, quantized.quantized_weight(), quantized.bias, padding=1))
    torch.testing.assert_close(found, hold_frames(torch.stack(results), FRAMES), **summed(64, 2.0))


def near(quantized, exact, levels):
    """Whether the mean error is at most half a level of a grid whose last one is the largest value.

    That grid is a candidate, and every error on it is half a level at most. The one chosen has no larger mean of errors
    to the power of 2.4; nor, by the power mean, of their squares.
    """
    largest = exact.abs().max() / (2 * levels)
    return (quantized - exact).square().mean().sqrt() <= largest * (1 + rounding(64))


def test_many_bits_without_memory_are_the_float_layer():
    x = frames()
    quantized = layer(time_steps=FRAMES, bits=8, decay=0.0)
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 3, 3, padding=1)
    wanted = plain(x.flatten(0, 1)).unflatten(0, (FRAMES, -1))
    spikes, weight = quantized.quantized_operands(x)
    for t in range(FRAMES):
        assert near(spikes[t], x[t], 255)
    assert near(weight, plain.weight, 127)

    def products(x, weight):
        return F.conv2d(x.flatten(0, 1).abs(), weight.abs(), padding=1).unflatten(0, (FRAMES, -1))

    off = products(spikes - x, weight) + products(x, weight - plain.weight)
    assert ((quantized(x) - wanted).abs() <= off + summed(64, 2.0)["atol"]).all()


@pytest.mark.parametrize("time_steps", [1, 2, 3, 6])
def test_fewer_time_steps_are_fewer_operations(time_steps):
    quantized, x = layer(time_steps=time_steps), frames()
    quantized(x)
    with FlopCounterMode(display=False) as counter:
        quantized(x)
    assert counter.get_total_flops() == 2 * time_steps * 2 * 25 * 3 * 4 * 9


def test_every_time_step_gets_the_best_step_of_its_membrane():
    x, quantized = frames(), layer(time_steps=3)
    quantized(x)
    membrane, binned = None, bin_frames(x, 3)
    for t in range(3):
        membrane = binned[0] if t == 0 else binned[t] + membrane
        step = renew_step(membrane, torch.tensor(4.0), signed=False).log().exp()
        assert quantized.spike_step[t].item() == pytest.approx(step.item())
        spikes = (membrane / step).round().clamp(0, 15) * step
        membrane = membrane - spikes


def test_gradients_reach_everything_that_is_learned():
    quantized, x = layer(searched=True, bits=2), frames().requires_grad_()
    quantized(x).square().mean().backward()
    for tensor in (x, quantized.weight, quantized.weight_log_step, quantized.time_latent):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0
    assert (quantized.spike_log_step.grad[:3] != 0).all()
    assert not quantized.spike_log_step.grad[3:].any()
    quantized.straight_through = False
    quantized.zero_grad()
    quantized(x).square().mean().backward()
    assert quantized.time_latent.grad is None
    assert quantized.spike_latent.grad is None


def test_recomputed_operands_give_the_same_gradients():
    def gradients(recompute):
        quantized = layer(searched=True)
        x = frames(batch=128, shape=(4, 12, 12)).requires_grad_()
        quantized(x.detach())
        if recompute:
            with recomputed_operands():
                result = quantized(x)
        else:
            result = quantized(x)
        result.square().mean().backward()
        return [x.grad, quantized.weight.grad, quantized.spike_log_step.grad, quantized.time_latent.grad]

    for plain, recomputed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_spikes_and_operations_are_counted_a_time_step():
    quantized, x = layer(nn.Linear, time_steps=2), frames(shape=(4,))
    x[0] = 0
    quantized(x)
    nonzero, total = quantized.count_spikes(x)
    assert total == 2 * 2 * 4
    assert 0 < nonzero <= total
    assert quantized.count_synops(x) == 3 * nonzero


def test_time_steps_follow_their_latent_up_to_the_frames():
    quantized, x = layer(searched=True, time_steps=2), frames()
    quantized(x)
    assert quantized.round_latents(8.0, [4.0] * FRAMES, 5.4)
    assert quantized(x).shape[0] == FRAMES
    assert quantized.layer_plan.time_steps == 5
    assert quantized.layer_plan.frames == FRAMES


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.Conv2d, (4, 2, 4, 5, 5)), (nn.Conv2d, (7, 4, 5, 5)), (nn.Linear, (7, 4))]
)
def test_another_number_of_frames_is_refused(kind, shape):
    with pytest.raises(InputError, match="the plan is for inputs of 6 frames"):
        layer(kind)(torch.rand(shape))


def test_a_plan_with_more_time_steps_than_frames_is_refused():
    with pytest.raises(ValueError, match="time_steps is 3, but the layer's input has 2 frames"):
        LayerPlan(weight_bits=8, spike_bits=(1, 1, 1), time_steps=3, frames=2)
