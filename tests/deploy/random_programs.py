"""Random integer programs with random numbers, of every operation there is: more than networks are lowered to."""

import numpy as np
import torch
from hypothesis import strategies as st

from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.deploy.integer.packed_layer import LayerNumbers
from bitsearch.deploy.integer.program import Program
from bitsearch.errors import InputError

INPUT = (2, 5, 4)
_POWERS = st.sampled_from([None, None, "power_of_two"])


def _numbers(draw, low, high, shape):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(low, high, shape, endpoint=True)


def _neuron(draw, frames):
    steps = draw(st.integers(1, min(frames or 3, 3)))
    signed = draw(st.booleans())
    bits = draw(st.lists(st.integers(1, 8), min_size=steps, max_size=steps))
    threshold = "half" if signed else draw(st.sampled_from(["half", "full"]))
    setting = {
        "spike_bits": bits,
        "signed": signed,
        "decay": draw(st.sampled_from([0, 30000, 65535, 65536, 65536])),
        "step_fraction": draw(st.integers(0, 9)),
        "frames": frames,
        "reset": "subtract" if signed else draw(st.sampled_from(["subtract", "zero"])),
        "threshold": threshold,
        "step_sizes": draw(_POWERS),
        "strict": threshold == "full" and draw(st.booleans()),
    }
    if draw(st.booleans()):
        setting["membrane_bits"] = draw(st.integers(9, 31))
    if not signed and draw(st.booleans()):
        setting["largest"] = [draw(st.integers(1, 2**one - 1)) for one in bits]
    return setting


def _weights(draw, shape):
    """Weights that fit a value of this shape."""
    channels, kind = shape[0], draw(st.sampled_from(["convolution", "convolution", "transposed", "linear"]))
    outputs = 2 * draw(st.integers(1, 2))
    if kind == "linear" or len(shape) == 1:
        return {"weight_shape": (outputs, shape[-1])}
    axes = len(shape) - 1
    groups = draw(st.sampled_from([one for one in (1, 2, channels) if channels % one == 0 and outputs % one == 0]))
    several = lambda low, high: [draw(st.integers(low, high)) for _ in range(axes)]  # noqa: E731
    setting = {
        "weight_shape": (outputs, channels // groups, *several(1, 3)),
        "stride": several(1, 3),
        "padding": several(0, 2),
        "dilation": several(1, 2),
        "groups": groups,
    }
    if kind == "transposed":
        pairs = zip(setting["stride"], setting["dilation"], strict=True)
        setting["output_padding"] = [draw(st.integers(0, max(pair) - 1)) for pair in pairs]
    return setting


def _layer(draw, shape, frames):
    weights = _weights(draw, shape)
    shift = draw(st.integers(0, 20))
    return (
        _neuron(draw, frames)
        | weights
        | {
            "weight_bits": draw(st.integers(1, 8)),
            "shift": shift,
            "fraction": draw(st.integers(-2, 12)),
            "scale": draw(_POWERS),
        }
    )


def _operation(draw, values, layers, frames):
    """An operation that may fit, whose layer is among ``layers``."""
    kinds = ["layer"] * 4 + ["neuron", "synapses", "relu", "scale", "max_pool", "average_pool", "add", "concatenate"]
    kind = draw(st.sampled_from([*kinds, "reshape", "fire"]))
    index = len(values) - 1 - draw(st.integers(0, min(2, len(values) - 1)))
    shape, name = values[index], f"operation {len(values)}"
    operation = {"op": kind, "name": name, "inputs": [index]}
    if kind in ("layer", "neuron", "synapses"):
        layers[name] = _layer(draw, shape, frames if draw(st.booleans()) else None)
        return operation | {"layer": name} | ({"finer": draw(st.integers(0, 3))} if kind == "neuron" else {})
    if kind == "scale":
        multiplier, shift = draw(st.integers(1, 1 << 16)), draw(st.integers(0, 16))
        return operation | {"multiplier": multiplier, "shift": shift, "finer": draw(st.integers(-3, 3))}
    if kind in ("max_pool", "average_pool"):
        axes = max(len(shape) - 1, 1)
        kernel = [draw(st.integers(1, 3)) for _ in range(axes)]
        setting = {"kernel": kernel, "stride": [draw(st.integers(1, 2)) for _ in range(axes)]}
        setting["padding"] = [draw(st.integers(0, size // 2)) for size in kernel]
        return operation | setting | ({"dilation": [1] * axes} if kind == "max_pool" else {})
    if kind in ("add", "concatenate"):
        alike = [other for other, one in enumerate(values) if one == shape]
        return operation | {"inputs": [index, draw(st.sampled_from(alike))]}
    if kind == "reshape":
        return operation | {
            "shape": draw(st.sampled_from([(int(np.prod(shape)),), (shape[0], int(np.prod(shape[1:])))]))
        }
    if kind == "fire":
        threshold = draw(st.sampled_from([1, 300, 1 << 20, 1 << 40]))
        return operation | {
            "threshold": threshold,
            "decay": draw(st.sampled_from([0, 50000, 65536])),
            "hard": draw(st.booleans()),
        }
    return operation


def _tensors(draw, layer):
    """Numbers of a packed layer."""
    largest = max(2 ** (layer.weight_bits - 1) - 1, 1)
    levels = _numbers(draw, -largest, largest, layer.weight_shape)
    levels = np.where(levels < 0, -1, 1) if layer.weight_bits == 1 else levels
    scale, longest = draw(st.sampled_from([4, 1 << 9, 1 << 22])), draw(st.sampled_from([2, 300, 1 << 20]))
    multiplier = _numbers(draw, -scale, scale, layer.outputs)
    if layer.scale is not None:
        multiplier = 1 << _numbers(draw, draw(st.sampled_from([0, 3])), 3, layer.outputs)
    steps = _numbers(draw, 1, longest, layer.time_steps)
    if layer.step_sizes is not None:
        steps = 1 << _numbers(draw, 0, longest.bit_length() - 1, layer.time_steps)
    if layer.membrane_bits is not None:
        steps = np.full_like(steps, steps[0])
    bias = _numbers(draw, -scale, scale, layer.outputs)
    return LayerNumbers(levels.astype(np.int8), *(one.astype(np.int32) for one in (multiplier, bias, steps)))


@st.composite
def packed_programs(draw, longest=5, *, framed=True):
    """A network that can run, as if it were read from a file; what does not fit is left out of it.

    Without ``framed`` its inputs have no time axis.
    """
    frames = draw(st.none() | st.integers(1, 5)) if framed else None
    network_input = {
        "shape": INPUT,
        "fraction": draw(st.integers(0, 8)),
        "largest": draw(st.sampled_from([100, 1 << 12, (1 << 31) - 1])),
        "frames": frames,
        "repeated": frames is not None and draw(st.booleans()),
    }
    # A program has a layer, and ends with a sum where there are frames.
    start = _layer(draw, INPUT, frames)
    layers, operations, numbers, values = {"first": start}, [], {}, [INPUT]
    packed = None
    steps = draw(st.integers(1, longest))
    for step in range(steps + 1):
        layers_so_far = dict(layers)
        if step == 0:
            operation = {"op": "layer", "name": "first", "inputs": [0], "layer": "first"}
        else:
            operation = _operation(draw, values, layers_so_far, frames)
        ending = [] if frames is None else [{"op": "sum_frames", "name": "sum", "inputs": [len(values)]}]
        try:
            program = Program.model_validate(
                {"input": network_input, "layers": layers_so_far, "operations": [*operations, operation, *ending]}
            )
            for name, layer in program.layers.items():
                numbers.setdefault(name, _tensors(draw, layer))
            made = PackedNetwork(program, {name: numbers[name] for name in program.layers}, {}, None)
            shape = made.analysis.values[len(values)].shape
        except (InputError, ValueError):
            numbers = {name: numbers[name] for name in layers if name in numbers}
            continue
        packed, layers = made, layers_so_far
        operations.append(operation)
        values.append(shape)
    return packed


def program_inputs(packed, count):
    """Samples that reach all of the input's range and beyond."""
    network_input = packed.program.input
    shape = [count if axis == "N" else axis for axis in network_input.axes]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x * 2.0 * network_input.largest * 2.0**-network_input.fraction
