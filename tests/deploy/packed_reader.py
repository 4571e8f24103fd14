"""A reader of packed files written from docs/packed-format.md alone: no torch, no numpy, no code of the library."""

import json
import math
import struct


def read(path):
    """(program, tensors as lists of integers, header metadata)."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        form = {"U8": f"{len(raw)}B", "I32": f"<{len(raw) // 4}i"}[entry["dtype"]]
        tensors[name] = list(struct.unpack(form, raw))
    return json.loads(metadata["bitsearch.program"]), tensors, metadata


def levels(layer, packed):
    bits, count = layer["weight_bits"], math.prod(layer["weight_shape"])
    stream = int.from_bytes(bytes(packed), "little")
    stored = [stream >> (index * bits) & (2**bits - 1) for index in range(count)]
    return [2 * value - 1 if bits == 1 else value - (2 ** (bits - 1) - 1) for value in stored]


def spikes(layer, steps, x, fraction):
    """Codes of one current, by time step."""
    unit = max(fraction, layer["step_fraction"])
    current = x << (unit - fraction)
    membrane, codes = current, []
    for bits, mantissa in zip(layer["spike_bits"], steps, strict=True):
        step = mantissa << (unit - layer["step_fraction"])
        if layer["signed"] and bits == 1:
            code = -1 if membrane < 0 else 1
        else:
            largest = max(2 ** (bits - 1) - 1, 1) if layer["signed"] else 2**bits - 1
            code = min(max((2 * membrane + step) // (2 * step), -largest if layer["signed"] else 0), largest)
        codes.append(code)
        residual = membrane - code * step
        membrane = current + (residual * layer["decay"] + 2**15 >> 16)
    return codes


def run_layer(layer, tensors, name, values, shape, fraction):
    """A two-dimensional convolution or a linear layer on a flat list of currents."""
    steps = tensors[f"{name}.spike_step"]
    common = math.gcd(*steps)
    sums = [
        sum(step // common * code for step, code in zip(steps, spikes(layer, steps, x, fraction), strict=True))
        for x in values
    ]
    weight = levels(layer, tensors[f"{name}.weight"])
    outputs, inputs, *kernel = layer["weight_shape"]

    def affine(total, channel):
        scaled = total * tensors[f"{name}.multiplier"][channel] + ((1 << layer["shift"]) >> 1)
        return (scaled >> layer["shift"]) + tensors[f"{name}.bias"][channel]

    if not kernel:
        rows = [weight[channel * inputs : (channel + 1) * inputs] for channel in range(outputs)]
        products = [sum(w * z for w, z in zip(row, sums, strict=True)) for row in rows]
        return [affine(total, channel) for channel, total in enumerate(products)], [outputs]
    _, height, width = shape
    (rows, columns), (down, right), (above, before) = kernel, layer["stride"], layer["padding"]
    tall, wide = (height + 2 * above - rows) // down + 1, (width + 2 * before - columns) // right + 1
    found = []
    for channel in range(outputs):
        for y in range(tall):
            for x in range(wide):
                total = 0
                for source in range(inputs):
                    for i in range(rows):
                        for j in range(columns):
                            at, across = y * down + i - above, x * right + j - before
                            if 0 <= at < height and 0 <= across < width:
                                tap = weight[((channel * inputs + source) * rows + i) * columns + j]
                                total += tap * sums[(source * height + at) * width + across]
                found.append(affine(total, channel))
    return found, [outputs, tall, wide]


def run(path, image):
    """Outputs and their fraction, for one input as a flat list of floats; the operations that digits_cnn has."""
    program, tensors, _ = read(path)
    given = program["input"]
    scaled = [math.floor(x * 2.0 ** given["fraction"] + 0.5) for x in image]
    values = [([min(max(x, -given["largest"]), given["largest"]) for x in scaled], given["shape"], given["fraction"])]
    for operation in program["operations"]:
        numbers, shape, fraction = values[operation["inputs"][0]]
        if operation["op"] == "layer":
            layer = program["layers"][operation["layer"]]
            numbers, shape = run_layer(layer, tensors, operation["layer"], numbers, shape, fraction)
            fraction = layer["fraction"]
        elif operation["op"] == "relu":
            numbers = [max(x, 0) for x in numbers]
        elif operation["op"] == "average_pool":
            size = math.prod(operation["kernel"])
            assert operation["kernel"] == shape[1:]
            finer = (size - 1).bit_length()
            windows = [numbers[start : start + size] for start in range(0, len(numbers), size)]
            numbers = [(2 * sum(window) * 2**finer + size) // (2 * size) for window in windows]
            shape, fraction = [shape[0], 1, 1], fraction + finer
        else:
            assert operation["op"] == "reshape"
            shape = operation["shape"]
        values.append((numbers, shape, fraction))
    return values[-1][0], values[-1][2]
