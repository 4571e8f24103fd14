"""Random networks for frames, in a loop and in multi-step mode: one function, one plan, the same logits.

    BITSEARCH_EXAMPLES=2000 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/dataflow/test_generated_twins.py

tries more than the suite does, and others each time.
"""

import copy
import os

import pytest
import torch
from generated import AGAIN, WIDTH
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.plan import UniformBits

FRAMES = 5
EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "20"))
OPERATIONS = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "halves of two": lambda a, b: torch.cat([a[..., : WIDTH // 2], b[..., WIDTH // 2 :]], -1),
    "flipped": lambda a, b: a.flip(-1),
    "relu": lambda a, b: torch.relu(a),
    "half": lambda a, b: 0.5 * a,
}
MODULES = {
    "layer": lambda: layer.Linear(WIDTH, WIDTH),
    # For halves of a row, folded into the batch.
    "tokens": lambda: nn.Linear(WIDTH // 2, WIDTH // 2),
    "lif": lambda: neuron.LIFNode(tau=3.0),
    "slow lif": lambda: neuron.LIFNode(tau=6.0, decay_input=False),
    "if": neuron.IFNode,
}
KINDS = (*OPERATIONS, *["layer"] * 5, "lif", "lif", "slow lif", "if", "tokens")


def steps(*more):
    """Of a program, with more kinds than those whose loop and multi-step form are one."""
    return st.tuples(st.sampled_from([*KINDS, *more]), st.integers(1, 3), st.integers(1, 3))


class Frames(nn.Module):
    """A program's network: a step reads two earlier values, counted backwards; modules are registered in any order."""

    def __init__(self, program, order, *, loop):
        super().__init__()
        self.program, self.loop = program, loop
        made = {step: MODULES[kind]() for step, (kind, _, _) in enumerate(program) if kind in MODULES}
        made[len(program)] = layer.Linear(WIDTH, 3)
        for step in sorted(made, key=lambda step: order[step % len(order)]):
            self.add_module(f"step{step}", made[step])
        if not loop:
            functional.set_step_mode(self, "m")

    def once(self, x):
        values = [x]
        for step, (kind, first, second) in enumerate(self.program):
            a, b = values[-min(first, len(values))], values[-min(second, len(values))]
            values.append(self.step(step, kind, a, b))
        return getattr(self, f"step{len(self.program)}")(values[-1])

    def step(self, step, kind, a, b):
        if kind == "tokens":
            return getattr(self, f"step{step}")(a.reshape(-1, WIDTH // 2)).reshape(a.shape)
        if kind == AGAIN:
            layers = [earlier for earlier, (made, _, _) in enumerate(self.program[:step]) if made == "layer"]
            return getattr(self, f"step{layers[-1]}")(a) if layers else a
        return getattr(self, f"step{step}")(a) if kind in MODULES else OPERATIONS[kind](a, b)

    def forward(self, x):
        return torch.stack([self.once(frame) for frame in x]) if self.loop else self.once(x)


def twins(program, order, seed):
    """(loop, whole) of the same weights, in double precision, whose neurons fire."""
    torch.manual_seed(seed)
    loop = Frames(program, order, loop=True).double().eval()
    for parameter in loop.parameters():
        parameter.data.mul_(3)
    whole = Frames(program, order, loop=False).double().eval()
    whole.load_state_dict(loop.state_dict())
    return loop, whole


def logits(network, x):
    functional.reset_net(network)
    with torch.no_grad():
        return network(x)


def quantized(network, x, bits):
    start = UniformBits(weight_bits=bits[0], spike_bits=bits[1], time_steps=FRAMES)
    made = bitsearch.quantize(
        copy.deepcopy(network),
        x,
        time_axis=True,
        start=start,
        choices=Choices(time_steps=Span(low=FRAMES, high=FRAMES)),
        first_layer=FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES),
    ).eval()
    logits(made, x)
    return made


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.filterwarnings("ignore:never called")
@examples(EXAMPLES)
@given(
    st.lists(steps(), min_size=2, max_size=8),
    st.permutations(range(9)),
    st.tuples(st.sampled_from([2, 4, 8]), st.sampled_from([1, 3, 8])),
    st.integers(0, 1000),
)
def test_a_loop_and_its_multi_step_twin_are_one_network(program, order, bits, seed):
    # Without memory, a loop's frames are inputs of their own.
    assume(any(kind in ("lif", "slow lif", "if") for kind, _, _ in program))
    x = 4 * torch.rand(FRAMES, 6, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    loop, whole = twins(program, order, seed)
    torch.testing.assert_close(logits(loop, x), logits(whole, x), rtol=FLOAT64, atol=FLOAT64)
    made = [quantized(network, x, bits) for network in (loop, whole)]
    plans = [
        {name: plan.model_copy(update={"loop": None}) for name, plan in network.layer_plans.items()} for network in made
    ]
    assert plans[0] == plans[1]
    scale = max(1.0, float(logits(made[1], x).abs().max()))
    torch.testing.assert_close(logits(made[0], x), logits(made[1], x), rtol=FLOAT64, atol=FLOAT64 * scale)
