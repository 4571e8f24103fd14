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


def bins(layer):
    """(first, end) of every time step's frames, and how many bits their mean gains."""
    frames, steps = layer.get("frames"), len(layer["spike_bits"])
    if frames is None:
        return [(0, 1)] * steps, 0
    windows = [(t * frames // steps, ((t + 1) * frames + steps - 1) // steps) for t in range(steps)]
    return windows, (max(end - start for start, end in windows) - 1).bit_length()


def spikes(layer, steps, frames, fraction):
    """Codes of one current, by time step; ``frames`` holds its value in every frame."""
    windows, finer = bins(layer)
    unit = max(fraction + finer, layer["step_fraction"])
    currents = []
    for start, end in windows:
        mean = (2 * sum(frames[start:end]) * 2**finer + end - start) // (2 * (end - start))
        currents.append(mean << (unit - fraction - finer))
    residual, codes = 0, []
    for current, bits, mantissa in zip(currents, layer["spike_bits"], steps, strict=True):
        membrane = current + (residual * layer["decay"] + 2**15 >> 16)
        step = mantissa << (unit - layer["step_fraction"])
        if layer["signed"] and bits == 1:
            code = -1 if membrane < 0 else 1
        else:
            largest = max(2 ** (bits - 1) - 1, 1) if layer["signed"] else 2**bits - 1
            code = min(max((2 * membrane + step) // (2 * step), -largest if layer["signed"] else 0), largest)
        codes.append(code)
        residual = membrane - code * step
    return codes


def fire(operation, currents):
    """Spikes of one neuron, frame by frame."""
    residual, spikes = 0, []
    for current in currents:
        membrane = residual + current
        spikes.append(int(membrane >= operation["threshold"]))
        if spikes[-1]:
            membrane = 0 if operation["hard"] else membrane - operation["threshold"]
        residual = membrane * operation["decay"] + 2**15 >> 16
    return spikes


def run_layer(layer, tensors, name, frames, shape, fraction):
    """A two-dimensional convolution or a linear layer on flat lists of currents, one a frame."""
    if layer.get("frames") is None and len(frames) > 1:
        frame_results = [run_layer(layer, tensors, name, [values], shape, fraction) for values in frames]
        return [values for (values,), _ in frame_results], frame_results[0][1]
    steps = tensors[f"{name}.spike_step"]
    common = math.gcd(*steps)
    weighted = [
        [step // common * code for step, code in zip(steps, spikes(layer, steps, x, fraction), strict=True)]
        for x in zip(*frames, strict=True)
    ]
    if layer.get("frames") is None:
        outputs, shape = convolved(layer, tensors, name, [sum(codes) for codes in weighted], shape)
        return [outputs], shape
    results = [convolved(layer, tensors, name, sums, shape) for sums in zip(*weighted, strict=True)]
    held_frames = [results[f * len(steps) // layer["frames"]][0] for f in range(layer["frames"])]
    return held_frames, results[0][1]


def convolved(layer, tensors, name, sums, shape):
    """The outputs of sums of spikes, and their shape."""
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
    (rows, columns), (down, right), (pad_top, pad_left) = kernel, layer["stride"], layer["padding"]
    out_height, out_width = (height + 2 * pad_top - rows) // down + 1, (width + 2 * pad_left - columns) // right + 1
    results = []
    for channel in range(outputs):
        for y in range(out_height):
            for x in range(out_width):
                total = 0
                for source in range(inputs):
                    for i in range(rows):
                        for j in range(columns):
                            row, column = y * down + i - pad_top, x * right + j - pad_left
                            if 0 <= row < height and 0 <= column < width:
                                tap = weight[((channel * inputs + source) * rows + i) * columns + j]
                                total += tap * sums[(source * height + row) * width + column]
                results.append(affine(total, channel))
    return results, [outputs, out_height, out_width]


def run(path, image):
    """Outputs and their fraction, for one input as a flat list of floats; the operations that digits_cnn has."""
    program, tensors, _ = read(path)
    network_input = program["input"]
    scaled = [math.floor(x * 2.0 ** network_input["fraction"] + 0.5) for x in image]
    encoded = [min(max(x, -network_input["largest"]), network_input["largest"]) for x in scaled]
    size = math.prod(network_input["shape"])
    frames = [encoded[start : start + size] for start in range(0, len(encoded), size)]
    frames = frames * network_input["frames"] if network_input["repeated"] else frames
    assert len(frames) == network_input.get("frames", 1)
    values = [(frames, network_input["shape"], network_input["fraction"])]
    for operation in program["operations"]:
        frames, shape, fraction = values[operation["inputs"][0]]
        if operation["op"] == "layer":
            layer = program["layers"][operation["layer"]]
            frames, shape = run_layer(layer, tensors, operation["layer"], frames, shape, fraction)
            fraction = layer["fraction"]
        elif operation["op"] == "scale":
            half = (1 << operation["shift"]) >> 1
            frames = [
                [(x * operation["multiplier"] + half) >> operation["shift"] for x in numbers] for numbers in frames
            ]
            fraction += operation["finer"]
        elif operation["op"] == "relu":
            frames = [[max(x, 0) for x in numbers] for numbers in frames]
        elif operation["op"] == "average_pool":
            size = math.prod(operation["kernel"])
            assert operation["kernel"] == shape[1:]
            finer = (size - 1).bit_length()
            windows = [[x[start : start + size] for start in range(0, len(x), size)] for x in frames]
            frames = [[(2 * sum(window) * 2**finer + size) // (2 * size) for window in frame] for frame in windows]
            shape, fraction = [shape[0], 1, 1], fraction + finer
        elif operation["op"] == "fire":
            trains = [fire(operation, currents) for currents in zip(*frames, strict=True)]
            frames, fraction = [list(spikes) for spikes in zip(*trains, strict=True)], 0
        elif operation["op"] == "sum_frames":
            frames = [[sum(x) for x in zip(*frames, strict=True)]]
        else:
            assert operation["op"] == "reshape"
            shape = operation["shape"]
        values.append((frames, shape, fraction))
    ((numbers,), _, fraction) = values[-1]
    return numbers, fraction
