"""Random small convolutional networks, for images and for frames of events, of spikingjelly's layers.

A design is a list of steps; each makes a tensor of earlier ones, counted backwards from the last, and one that does not
fit their shapes makes none. A network says what its layers and neurons are called with, so that a test can count.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch.cost import CostModel, trace
from bitsearch.layers import convert
from bitsearch.plan import UniformBits

CHANNELS, SIDE, CLASSES = 4, 4, 3
CONVOLUTIONS = {
    "conv": {"kernel_size": 3, "padding": 1},
    "pointwise": {"kernel_size": 1},
    "halving": {"kernel_size": 3, "stride": 2, "padding": 1},
    "oblong": {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 2, "dilation": 2, "padding": 1},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": CHANNELS},
}
"""From any channels to :data:`CHANNELS`; in groups where the input's channels can be cut into so many."""
NEURONS = {
    "if": lambda: neuron.IFNode(v_reset=None),
    "hard if": lambda: neuron.IFNode(v_threshold=0.5),
    "lif": lambda: neuron.LIFNode(tau=2.0, v_reset=None, decay_input=False),
    "hard lif": lambda: neuron.LIFNode(tau=3.0),
}
POOLS = {
    "average": lambda: layer.AvgPool2d(2),
    "overlapping": lambda: layer.AvgPool2d(3, 1, padding=1),
    "largest": lambda: layer.MaxPool2d(2),
}
JOINS = ("add", "shortcut", "concatenate", "again")
"""A sum, one with a 1×1 convolution of its second part, channels side by side, and a convolution once more."""
HEADS = ("global", "flat")
UNIFORM = UniformBits(weight_bits=4, spike_bits=4, time_steps=1)

Step = tuple[str, int, int]
"""(what happens, which earlier tensors: counted backwards from the last)."""


@dataclass(frozen=True)
class Design:
    """What a network is made of."""

    program: tuple[Step, ...]
    head: str
    seed: int
    frames: int | None
    """Length of the time axis, if there is one; a single frame is none."""
    repeated: bool
    """True if the network makes it of a static input."""
    signed: bool
    """True if its input may be negative."""

    @property
    def framed(self):
        """True if its input has the time axis."""
        return self.frames is not None and not self.repeated


BACK = st.integers(1, 3)


def _steps(kinds):
    return st.tuples(st.sampled_from(kinds), BACK, BACK)


@st.composite
def any_steps(draw, longest=7):
    """Whatever there is, behind a convolution."""
    kinds = [*CONVOLUTIONS, *CONVOLUTIONS, *NEURONS, *NEURONS, *POOLS, *JOINS, "norm", "relu"]
    return (
        (draw(st.sampled_from(list(CONVOLUTIONS))), 1, 1),
        *draw(st.lists(_steps(kinds), min_size=1, max_size=longest)),
    )


@st.composite
def streamed_steps(draw, longest=3):
    """What NIR has: convolutions with norms, sums of their currents, and neurons, whose spikes may be averaged."""
    program = []
    for _ in range(draw(st.integers(1, longest))):
        program.append((draw(st.sampled_from([kind for kind in CONVOLUTIONS if kind != "oblong"])), 1, 1))
        program += [("norm", 1, 1)] * draw(st.integers(0, 1))
        program += [(draw(st.sampled_from(["shortcut", "add"])), 1, 2)] * draw(st.integers(0, 1))
        program.append((draw(st.sampled_from(list(NEURONS))), 1, 1))
        program += [("average", 1, 1)] * draw(st.integers(0, 1))
    return tuple(program)


@st.composite
def designs(draw, steps=None, *, repeated=None, signed=None):
    """Designs with and without a time axis; ``repeated`` and ``signed`` fix what they may be."""
    frames = draw(st.none() | st.integers(2, 4))
    return Design(
        draw(any_steps() if steps is None else steps),
        draw(st.sampled_from(HEADS)),
        draw(st.integers(0, 10**6)),
        frames,
        (draw(st.booleans()) if repeated is None else repeated) and frames is not None,
        draw(st.booleans()) if signed is None else signed,
    )


@dataclass(frozen=True)
class Made:
    """How a network computes one of its tensors."""

    reads: tuple[int, ...]
    shape: tuple[int, ...]
    operation: str = "modules"
    paths: tuple[str, ...] = ()
    """Of the modules that run one after the other."""


class Generated(nn.Module):
    """The network of a design, on ``[N, 2, H, W]``, or ``[T, N, 2, H, W]`` where the frames are not repeated."""

    def __init__(self, design):
        super().__init__()
        self.design = design
        torch.manual_seed(design.seed)
        self.made = [Made((), (2, SIDE, SIDE))]
        """One for every tensor, the input the first."""
        self.last = ""
        for number, (kind, first, second) in enumerate(design.program):
            a, b = (len(self.made) - min(back, len(self.made)) for back in (first, second))
            self._add(f"step{number}", kind, a, b)
        size = prod(self.made[-1].shape if design.head == "flat" else self.made[-1].shape[:1])
        self.pool = layer.AdaptiveAvgPool2d(1) if design.head == "global" else nn.Identity()
        self.flatten, self.classifier = layer.Flatten(), layer.Linear(size, CLASSES)
        self._drop_what_nothing_reads()
        functional.set_step_mode(self, "s" if design.frames is None else "m")
        with torch.no_grad():
            for parameter in self.parameters():
                # So that neurons fire, and not all of them.
                parameter.mul_(2)

    def _add(self, path, kind, a, b):
        """What a step makes of two tensors."""
        shape, other = self.made[a].shape, self.made[b].shape
        channels, height, width = shape
        alike = shape[1:] == other[1:]
        if kind in CONVOLUTIONS:
            setting = dict(CONVOLUTIONS[kind])
            groups = setting.pop("groups", 1)
            groups = groups if channels % groups == 0 else 1
            self._call(path, a, layer.Conv2d(channels, CHANNELS, bias=kind != "conv", groups=groups, **setting))
            self.last = path
        elif kind == "again" and channels == self.get_submodule(self.last).in_channels:
            norms = [one.paths[1:] for one in self.made if one.paths[:1] == (self.last,)]
            self._call(self.last, a, behind=norms[0])
        elif kind == "shortcut" and alike:
            self._call(path, b, layer.Conv2d(other[0], channels, 1))
            self.made.append(Made((a, len(self.made) - 1), shape, "add"))
        elif kind == "add" and shape == other and a != b:
            self.made.append(Made((a, b), shape, "add"))
        elif kind == "concatenate" and alike and channels + other[0] <= 2 * CHANNELS:
            self.made.append(Made((a, b), (channels + other[0], height, width), "concatenate"))
        elif kind == "norm" and self.made[-1].paths == (self.last,) and self._runs(self.last) == 1:
            # Of the batches that its statistics are set from alone.
            self.add_module(path, layer.BatchNorm2d(self.made[-1].shape[0], momentum=None))
            self.made[-1] = replace(self.made[-1], paths=(self.last, path))
        elif kind == "overlapping" or (kind in POOLS and min(height, width) > 1):
            sides = (height, width) if kind == "overlapping" else (height // 2, width // 2)
            self._module(path, POOLS[kind](), a, (channels, *sides))
        elif kind == "relu" or (kind in NEURONS and self._is_current(a)):
            self._module(path, nn.ReLU() if kind == "relu" else NEURONS[kind](), a, shape)

    def _call(self, path, a, convolution=None, behind=()):
        if convolution is not None:
            self.add_module(path, convolution)
        with torch.no_grad():
            shape = nn.Conv2d.forward(self.get_submodule(path), torch.zeros(1, *self.made[a].shape)).shape[1:]
        self.made.append(Made((a,), tuple(shape), paths=(path, *behind)))

    def _module(self, path, module, a, shape):
        self.add_module(path, module)
        self.made.append(Made((a,), shape, paths=(path,)))

    def _is_current(self, index):
        """True if a layer made something of the input."""
        one = self.made[index]
        layers = [path for path in one.paths if isinstance(self.get_submodule(path), nn.Conv2d)]
        return bool(layers) or any(map(self._is_current, one.reads))

    def _runs(self, path):
        return sum(one.paths[:1] == (path,) for one in self.made)

    def _drop_what_nothing_reads(self):
        read = {len(self.made) - 1}
        for index in reversed(range(len(self.made))):
            read.update(self.made[index].reads if index in read else ())
        self.made = [one if index in read else None for index, one in enumerate(self.made)]
        kept = {path for one in self.made if one is not None for path in one.paths}
        for path in [path for path, _ in self.named_children() if path.startswith("step") and path not in kept]:
            delattr(self, path)

    def calls(self):
        """(the tensor that is read, its shape, the result's shape) of every call of a layer or neuron, by path."""
        calls = {}
        for one in self.made:
            for path in () if one is None else one.paths[:1]:
                calls.setdefault(path, []).append((one.reads[0], self.made[one.reads[0]].shape, one.shape))
        calls["classifier"] = [(len(self.made), (self.classifier.in_features,), (CLASSES,))]
        return calls

    def forward(self, x):
        if self.design.repeated:
            x = x.unsqueeze(0).repeat(self.design.frames, 1, 1, 1, 1)
        values = [x]
        for one in self.made[1:]:
            parts = [] if one is None else [values[index] for index in one.reads]
            if one is None:
                values.append(None)
            elif one.operation == "add":
                values.append(parts[0] + parts[1])
            elif one.operation == "concatenate":
                values.append(torch.cat(parts, -3))
            else:
                values.append(parts[0])
                for path in one.paths:
                    values[-1] = self.get_submodule(path)(values[-1])
        x = self.head(values[-1])
        return x.mean(0) if self.design.repeated else x

    def head(self, x):
        """Logits of the last tensor."""
        return self.classifier(self.flatten(self.pool(x)))


def inputs(design, count):
    """``count`` samples: small counts of events where there are frames of them, any values else."""
    generator = torch.Generator().manual_seed(design.seed)
    if design.framed:
        x = torch.poisson(torch.full((design.frames, count, 2, SIDE, SIDE), 0.7), generator=generator)
        return x - 1 if design.signed else x
    x = torch.rand(count, 2, SIDE, SIDE, generator=generator)
    return 3 * x - 1.5 if design.signed else 2 * x


def measured(network, **options):
    """Cost model of a generated network; ``options`` as for :func:`bitsearch.cost.trace`."""
    return CostModel(trace(network, inputs(network.design, 6), time_axis=network.design.framed, **options))


MEMBRANES = (None, None, 9, 12, 16, 24)
"""Widths of all of a plan's membranes, in bits; None of floats."""


@st.composite
def plans(draw, model, membranes=(None,)):
    """Any bits, where layers that have neurons in common share those of their spikes; ``membranes``: their widths."""
    granularity, step_sizes = (
        draw(st.sampled_from(kinds)) for kinds in (["layer", "channel"], ["free", "power_of_two"])
    )
    base, streams, plan = model.uniform(UNIFORM, None, granularity=granularity, step_sizes=step_sizes), {}, {}
    widths, membrane_bits = st.integers(1, 8), draw(st.sampled_from(membranes))
    membrane = {} if membrane_bits is None else {"membrane_bits": membrane_bits, "spike_granularity": "layer"}
    for one in model.layers:
        stream = one.stream_of or one.name
        if stream not in streams:
            streams[stream] = tuple(draw(st.lists(widths, min_size=1, max_size=base[one.name].frames or 3)))
        plan[one.name] = base[one.name].with_bits(draw(widths), streams[stream]).model_copy(update=membrane)
    return plan


@st.composite
def streamed_plans(draw, model):
    """One-bit spikes, a step a frame, or one, and any weight bits."""
    base = model.uniform(UNIFORM, None)
    return {
        name: layer_plan.with_bits(draw(st.integers(1, 8)), (1,) * (layer_plan.frames or 1))
        for name, layer_plan in base.items()
    }


@torch.no_grad()
def trained(network, plan, x):
    """The quantized network of a plan, its steps and statistics set from a batch."""
    quantized = convert(network, plan).train()
    for _ in range(2):
        quantized(x)
    return quantized.eval()
