"""The encoded input, against the network on the input as it is."""

import pytest
import torch
from torch import nn

from bitsearch import pack, read
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        return self.first(x) + self.second(x)


@pytest.mark.parametrize("step_sizes", [None, "power_of_two"])
@pytest.mark.parametrize(("first", "second"), [(-10, -2), (-12, 0), (0, -10), (2, -12), (-3, -3)])
def test_readers_whose_steps_are_far_apart_read_the_same_input(first, second, step_sizes, tmp_path):
    """The finest tells parts of its step from each other, the coarsest what would be all the same to the finest."""
    torch.manual_seed(1)
    plan = LayerPlan(weight_bits=4, spike_bits=(6,), time_steps=1, signed_input=True, step_sizes=step_sizes)
    quantized = convert(TwoReaders(), {"first": plan, "second": plan}).train()
    inputs = (2 * torch.randint(-1600, 1600, (64, 8)) + 1) / 256
    quantized(inputs)
    with torch.no_grad():
        # Sizes that are no powers of two put no input on the border of two levels.
        quantized.first.spike_log_step.fill_(torch.tensor(2.0**first * (1 if step_sizes else 1.01)).log())
        quantized.second.spike_log_step.fill_(torch.tensor(2.0**second * (1 if step_sizes else 0.99)).log())
    quantized.eval()
    pack(quantized, inputs, tmp_path / "packed")
    replay = read(tmp_path / "packed").replay()
    logits = torch.ldexp(replay(inputs).double(), torch.tensor(-replay.analysis.values[-1].fraction))
    assert torch.allclose(logits, quantized(inputs).double(), atol=1e-3)
