"""Random small networks: a list of steps, each of which makes a ``[N, 8]`` tensor of earlier ones.

A network knows nothing but torch; its modules are registered in any order, under names that tell their step.
"""

import copy

import torch
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn import functional as F

WIDTH = 8


def _written_by_column(a, b):
    out = a.new_empty(a.shape)
    for column in range(WIDTH):
        out[:, column] = a[:, column] if column % 2 else b[:, column]
    return out


def _added_in_place(a, b):
    out = torch.zeros_like(a)
    out += a
    out += b
    return out


def _written_over_a_view(a, b):
    out = a.clone()
    out[:, ::2] = b[:, 1::2]
    return out


def _lowered_behind_a_view(a, b):
    out = a.clone()
    left = out[:, : WIDTH // 2]
    left -= b[:, : WIDTH // 2]
    return out


def _lowered_in_front_of_a_view(a, b):
    out = a.clone()
    shown = out.view(len(a), 2, -1)
    out -= b
    return shown.flatten(1)


def _seen_through_another_view(a, b):
    out = a.clone()
    shown = out.view(-1)
    out[:, 1:].mul_(-1)
    return shown.view(-1, WIDTH)


def _joined_by_loop(a, b):
    return torch.stack([one + other for one, other in zip(a.unbind(1), b.unbind(1), strict=True)], 1)


def _pooled(a, b):
    return F.avg_pool1d(a[:, None], 3, stride=1, padding=1)[:, 0]


def _largest(a, b):
    return F.max_pool1d(a[:, None], 2)[:, 0].repeat(1, 2)


def _put(a, b):
    out = a.clone()
    out[torch.arange(len(a)) % 2 == 0] = 0.0
    return out.index_put((torch.tensor([0]),), b[:1])


OPERATIONS = {
    # Moves.
    "folded": lambda a, b: a.reshape(-1, 2, 4).transpose(1, 2).reshape(-1, WIDTH),
    "flipped": lambda a, b: a.flip(1).roll(1, 1),
    "halves swapped": lambda a, b: torch.cat([a[:, 4:], a[:, :4]], 1),
    "halves of two": lambda a, b: torch.cat([a[:, :4], b[:, 4:]], 1),
    "picked": lambda a, b: a[:, [7, 0, 0, 3, 1, 2, 6, 5]],
    "gathered": lambda a, b: a.gather(1, torch.zeros_like(a, dtype=torch.long)),
    "spread": lambda a, b: a[:, :1].expand(-1, WIDTH),
    "split": lambda a, b: torch.cat(a.split(2, 1)[::-1], 1),
    "repeated": lambda a, b: a[:, :4].repeat_interleave(2, 1),
    "padded": lambda a, b: F.pad(a[:, 1:-1], (1, 1)),
    "padded with less": lambda a, b: F.pad(a[:, 2:], (1, 1), value=-1.0),
    "copied": lambda a, b: a.clone().detach().to(torch.float32),
    # Means, sums, and the largest.
    "pooled": _pooled,
    "largest": _largest,
    "mean": lambda a, b: a.mean(1, keepdim=True).expand(-1, WIDTH),
    "sum so far": lambda a, b: a.cumsum(1),
    "most": lambda a, b: a.amax(1, keepdim=True) + torch.zeros_like(a),
    "sorted": lambda a, b: a.sort(1).values,
    # Of two.
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / (1 + b.abs()),
    "larger": lambda a, b: torch.maximum(a, b),
    "smaller": lambda a, b: torch.minimum(a, b),
    "mixture": lambda a, b: torch.lerp(a, b, 0.25),
    "less a product": lambda a, b: torch.addcmul(a, a, b, value=-0.5),
    "square": lambda a, b: a * a,
    "looped": _joined_by_loop,
    # With numbers.
    "doubled": lambda a, b: 2 * a,
    "turned": lambda a, b: a * -0.5,
    "negative": lambda a, b: -a,
    "lowered": lambda a, b: a - 0.5,
    "from one": lambda a, b: 1 - a,
    "masked": lambda a, b: a.masked_fill(torch.arange(WIDTH) > 5, 0.0),
    "masked with less": lambda a, b: a.masked_fill(torch.arange(WIDTH) > 5, -1.0),
    # In place.
    "written by column": _written_by_column,
    "added in place": _added_in_place,
    "written over a view": _written_over_a_view,
    "lowered behind a view": _lowered_behind_a_view,
    "lowered in front of a view": _lowered_in_front_of_a_view,
    "seen through another view": _seen_through_another_view,
    "put": _put,
    # Activations.
    "relu": lambda a, b: torch.relu(a),
    "relu in place": lambda a, b: F.relu_(a.clone()),
    "abs": lambda a, b: a.abs(),
    "sigmoid": lambda a, b: torch.sigmoid(a),
    "softmax": lambda a, b: torch.softmax(a, 1),
    "gelu": lambda a, b: F.gelu(a),
    "silu": lambda a, b: F.silu(a),
    "leaky": lambda a, b: F.leaky_relu(a, 0.1),
    "tanh": lambda a, b: torch.tanh(a),
    "elu": lambda a, b: F.elu(a),
    "hardtanh": lambda a, b: F.hardtanh(a),
    "clamp": lambda a, b: a.clamp(min=0.0, max=1.0),
    "rounded": lambda a, b: (a * 3).round(),
    "positive as gate": lambda a, b: torch.where(a > 0, a, b),
}
"""By name, of two tensors."""

MODULES = ("layer", "tokens", "neuron", "scale", "shift", "norm")
"""What has a module of its own at every step; ``tokens`` is a layer for halves of a row, folded into the batch."""
AGAIN = "layer again"
"""What has the module of the layer before it; without one, nothing happens."""

Step = tuple[str, int, int]
"""(what happens, which earlier tensors: counted backwards from the last)."""


def programs(longest=10):
    """Lists of steps."""
    kinds = st.sampled_from([*OPERATIONS, *["layer"] * 8, *["neuron"] * 8, *[AGAIN] * 3, *MODULES])
    back = st.integers(1, 3)
    return st.lists(st.tuples(kinds, back, back), min_size=1, max_size=longest)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x):
        return x * self.factor


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.rand(()))

    def forward(self, x):
        return x + self.amount


def _module(kind, step):
    if kind == "layer":
        return nn.Linear(WIDTH, WIDTH)
    if kind == "tokens":
        return nn.Linear(WIDTH // 2, WIDTH // 2)
    if kind == "neuron":
        return neuron.IFNode() if step % 2 else neuron.LIFNode(tau=2.0 + step)
    return {"scale": Scale, "shift": Shift, "norm": lambda: nn.BatchNorm1d(WIDTH)}[kind]()


class Generated(nn.Module):
    """The network of a program; ``order`` rearranges how its modules are registered, ``listed`` puts them in a list."""

    def __init__(self, program, order=None, *, listed=False):
        super().__init__()
        self.program = program
        steps = [step for step, (kind, _, _) in enumerate(program) if kind in MODULES]
        made = {step: _module(program[step][0], step) for step in steps}
        made[len(program)] = nn.Linear(WIDTH, 3)
        wanted = list(made) if order is None else sorted(made, key=lambda step: order[step % len(order)])
        self.place = {step: place for place, step in enumerate(wanted)}
        if listed:
            self.parts = nn.ModuleList(made[step] for step in wanted)
        else:
            for step in wanted:
                self.add_module(f"step{step}", made[step])

    def path(self, step):
        """Of a step's module."""
        return f"parts.{self.place[step]}" if hasattr(self, "parts") else f"step{step}"

    def module(self, step):
        """Of a step."""
        return self.get_submodule(self.path(step))

    def forward(self, x):
        values = [x]
        for step, (kind, first, second) in enumerate(self.program):
            a, b = values[-min(first, len(values))], values[-min(second, len(values))]
            values.append(self.step(step, kind, a, b))
        return self.module(len(self.program))(values[-1])

    def step(self, step, kind, a, b):
        """What a step makes of two earlier tensors."""
        if kind == "tokens":
            return self.module(step)(a.reshape(-1, WIDTH // 2)).reshape(-1, WIDTH)
        if kind == AGAIN:
            layers = [earlier for earlier, (made, _, _) in enumerate(self.program[:step]) if made == "layer"]
            return self.module(layers[-1])(a) if layers else a
        return self.module(step)(a) if kind in MODULES else OPERATIONS[kind](a, b)


def same_weights(network, other):
    """``other`` with the weights of ``network``, step by step."""
    for step in network.place:
        other.module(step).load_state_dict(copy.deepcopy(network.module(step).state_dict()))
    return other


@torch.no_grad()
def redraw(network, generator):
    """Other values for every parameter, of any sign."""
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
