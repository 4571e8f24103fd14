"""A reader of packed files written from docs/packed-format.md alone: no torch, no numpy, no code of the library."""

import itertools
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


def powers(tensors, name, stored):
    """Numbers of a layer, of which a file may hold the exponents."""
    exponent = f"{name}.{'multiplier' if stored == 'multiplier' else 'spike'}_exponent"
    return [1 << one for one in tensors[exponent]] if exponent in tensors else tensors[f"{name}.{stored}"]


def levels(layer, packed):
    bits, count = layer["weight_bits"], math.prod(layer["weight_shape"])
    stream = int.from_bytes(bytes(packed), "little")
    stored = [stream >> (index * bits) & (2**bits - 1) for index in range(count)]
    return [2 * value - 1 if bits == 1 else value - (2 ** (bits - 1) - 1) for value in stored]


def spike_steps(layer, tensors, name):
    stored = powers(tensors, layer.get("steps_of", name), "spike_step")
    return stored * len(layer["spike_bits"]) if layer.get("one_step") else stored


def bins(layer):
    """(first, end) of every time step's frames, and how many bits their mean gains."""
    frames, steps = layer.get("frames"), len(layer["spike_bits"])
    if frames is None:
        return [(0, 1)] * steps, 0
    windows = [(t * frames // steps, ((t + 1) * frames + steps - 1) // steps) for t in range(steps)]
    return windows, (max(end - start for start, end in windows) - 1).bit_length()


def spikes(layer, steps, frames, fraction):
    """Codes of one current, by time step; ``frames`` holds its value in every frame."""
    frames_by_step, finer = bins(layer)
    unit = max(fraction + finer, layer["step_fraction"])
    currents = []
    for start, end in frames_by_step:
        mean = (2 * sum(frames[start:end]) * 2**finer + end - start) // (2 * (end - start))
        currents.append(mean << (unit - fraction - finer))
    if layer.get("membrane_bits"):
        return stored_spikes(layer, steps[0], frames, fraction)
    residual, codes = 0, []
    full, strict = layer.get("threshold") == "full", layer.get("strict")
    for t, (current, bits, mantissa) in enumerate(zip(currents, layer["spike_bits"], steps, strict=True)):
        membrane = current + (residual * layer["decay"] + 2**15 >> 16)
        step = mantissa << (unit - layer["step_fraction"])
        if layer["signed"] and bits == 1:
            code = -1 if membrane < 0 else 1
        else:
            largest = max(2 ** (bits - 1) - 1, 1) if layer["signed"] else 2**bits - 1
            largest = layer["largest"][t] if layer.get("largest") else largest
            code = (2 * membrane + step) // (2 * step)
            if full:
                code = -(-membrane // step) - 1 if strict else membrane // step
            code = min(max(code, -largest if layer["signed"] else 0), largest)
        codes.append(code)
        residual = 0 if code and layer.get("reset") == "zero" else membrane - code * step
    return codes


def stored_spikes(layer, mantissa, frames, fraction):
    """Codes of a neuron whose membrane has a width."""
    bits, signed, widest = layer["membrane_bits"], layer["signed"], max(layer["spike_bits"])
    magnitude = max(widest - 1, 1) if signed else widest
    places = max(bits - 2 - magnitude, 0)
    frames_by_step, finer = bins(layer)

    def saturated(number):
        return min(max(number, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)

    residual, codes = 0, []
    for t, (start, end) in enumerate(frames_by_step):
        mean = (2 * sum(frames[start:end]) * 2**finer + end - start) // (2 * (end - start))
        shift = places + layer["step_fraction"] - fraction - finer
        numerator, denominator = mean << max(shift, 0), mantissa << max(-shift, 0)
        current = saturated((2 * numerator + denominator) // (2 * denominator))
        membrane = saturated(current + (residual * layer["decay"] + 2**15 >> 16))
        if signed and layer["spike_bits"][t] == 1:
            code = -1 if membrane < 0 else 1
        else:
            largest = max(2 ** (layer["spike_bits"][t] - 1) - 1, 1) if signed else 2 ** layer["spike_bits"][t] - 1
            largest = layer["largest"][t] if layer.get("largest") else largest
            code = (2 * membrane + 2**places) // 2 ** (places + 1)
            if layer.get("threshold") == "full":
                code = (membrane - 1 if layer.get("strict") else membrane) >> places
            code = min(max(code, -largest if signed else 0), largest)
        codes.append(code)
        residual = 0 if code and layer.get("reset") == "zero" else membrane - (code << places)
    return codes


def windows(shape, setting, kernel):
    """(positions in a channel of the currents of every window, None in the padding; how many there are by axis)."""
    dilations = setting.get("dilation", [1] * len(kernel))
    axes = []
    for length, size, stride, pad, dilation in zip(
        shape[1:], kernel, setting["stride"], setting["padding"], dilations, strict=True
    ):
        count = (length + 2 * pad - dilation * (size - 1) - 1) // stride + 1
        axes.append([[start * stride + tap * dilation - pad for tap in range(size)] for start in range(count)])

    def position(place):
        index = 0
        for coordinate, length in zip(place, shape[1:], strict=True):
            if not 0 <= coordinate < length:
                return None
            index = index * length + coordinate
        return index

    places = [[position(place) for place in itertools.product(*starts)] for starts in itertools.product(*axes)]
    return places, [len(axis) for axis in axes]


def run_neuron(operation, layer, steps, frames, shape, fraction):
    """What the neuron in front of a layer's weights sends, in every frame."""
    common = math.gcd(*steps)
    scale = 2 ** operation["finer"]
    if layer.get("frames") is None:
        trains = [[spikes(layer, steps, [x], fraction) for x in currents] for currents in frames]
        sums = [
            [scale * sum(step // common * code for step, code in zip(steps, codes, strict=True)) for codes in train]
            for train in trains
        ]
        return sums, shape, operation["finer"]
    trains = [spikes(layer, steps, x, fraction) for x in zip(*frames, strict=True)]
    shown = [f * len(steps) // layer["frames"] for f in range(layer["frames"])]
    return [[scale * (steps[t] // common) * codes[t] for codes in trains] for t in shown], shape, operation["finer"]


def run_synapses(layer, tensors, name, frames, shape):
    """The weights of a layer on what neurons have sent."""
    if layer.get("frames") is None:
        results = [convolved(layer, tensors, name, sums, shape) for sums in frames]
        return [outputs for outputs, _ in results], results[0][1], layer["fraction"]
    steps, count = len(layer["spike_bits"]), layer["frames"]
    first = [min(f for f in range(count) if f * steps // count == t) for t in range(steps)]
    results = [convolved(layer, tensors, name, frames[f], shape) for f in first]
    return [results[f * steps // count][0] for f in range(count)], results[0][1], layer["fraction"]


def run_layer(layer, tensors, name, frames, shape, fraction):
    """A convolution or a linear layer on flat lists of currents, one a frame."""
    if layer.get("frames") is None and len(frames) > 1:
        frame_results = [run_layer(layer, tensors, name, [values], shape, fraction) for values in frames]
        return [values for (values,), _ in frame_results], frame_results[0][1]
    steps = spike_steps(layer, tensors, name)
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
    weight = levels(layer, tensors[f"{layer.get('weight_of', name)}.weight"])
    outputs, inputs, *kernel = layer["weight_shape"]
    multiplier = powers(tensors, name, "multiplier")

    def affine(total, channel):
        scaled = total * multiplier[channel] + ((1 << layer["shift"]) >> 1)
        return (scaled >> layer["shift"]) + tensors[f"{name}.bias"][channel]

    if not kernel:
        rows = [weight[channel * inputs : (channel + 1) * inputs] for channel in range(outputs)]
        products = [sum(w * z for w, z in zip(row, sums, strict=True)) for row in rows]
        return [affine(total, channel) for channel, total in enumerate(products)], [outputs]
    taps = math.prod(kernel)
    if "output_padding" in layer:
        counts, totals = spread(layer, weight, sums, shape)
        return [affine(total, index // math.prod(counts)) for index, total in enumerate(totals)], [outputs, *counts]
    places, counts = windows(shape, layer, kernel)
    plane, results = math.prod(shape[1:]), []
    for channel in range(outputs):
        first = channel // (outputs // layer["groups"]) * inputs
        for window in places:
            total = 0
            for source in range(inputs):
                row = weight[(channel * inputs + source) * taps : (channel * inputs + source + 1) * taps]
                total += sum(
                    w * sums[(first + source) * plane + place]
                    for w, place in zip(row, window, strict=True)
                    if place is not None
                )
            results.append(affine(total, channel))
    return results, [outputs, *counts]


def spread(layer, weight, sums, shape):
    """(sizes, sums) of a transposed convolution: every input adds its kernel to the results."""
    outputs, inputs, *kernel = layer["weight_shape"]
    settings = list(zip(layer["stride"], layer["padding"], layer["dilation"], strict=True))
    counts = [
        (length - 1) * stride - 2 * pad + dilation * (size - 1) + 1 + extra
        for length, size, extra, (stride, pad, dilation) in zip(
            shape[1:], kernel, layer["output_padding"], settings, strict=True
        )
    ]
    totals = [0] * (outputs * math.prod(counts))
    grid = itertools.product(*(range(size) for size in (shape[0], *shape[1:])))
    for value, (source, *place) in zip(sums, grid, strict=True):
        group, row = divmod(source, inputs)
        for channel, tap in itertools.product(
            range(group * outputs // layer["groups"], (group + 1) * outputs // layer["groups"]),
            itertools.product(*(range(size) for size in kernel)),
        ):
            target, number = channel, channel * inputs + row
            for start, step, count, size, (stride, pad, dilation) in zip(
                place, tap, counts, kernel, settings, strict=True
            ):
                end = start * stride - pad + step * dilation
                target = None if target is None or not 0 <= end < count else target * count + end
                number = number * size + step
            if target is not None:
                totals[target] += value * weight[number]
    return counts, totals


def relu(operation, inputs):
    frames, shape, fraction = inputs[0]
    return [[max(x, 0) for x in currents] for currents in frames], shape, fraction


def scale(operation, inputs):
    frames, shape, fraction = inputs[0]
    half = (1 << operation["shift"]) >> 1
    scaled = [[(x * operation["multiplier"] + half) >> operation["shift"] for x in currents] for currents in frames]
    return scaled, shape, fraction + operation["finer"]


def pooled(operation, value, pool):
    """Every window's ``pool`` of its currents, the padding left out."""
    frames, shape, _ = value
    places, counts = windows(shape, operation, operation["kernel"])
    plane = math.prod(shape[1:])
    channels = [[x[start : start + plane] for start in range(0, len(x), plane)] for x in frames]
    results = [
        [pool([channel[place] for place in window if place is not None]) for channel in frame for window in places]
        for frame in channels
    ]
    return results, [shape[0], *counts]


def max_pool(operation, inputs):
    return *pooled(operation, inputs[0], max), inputs[0][2]


def average_pool(operation, inputs):
    size = math.prod(operation["kernel"])
    finer = (size - 1).bit_length()
    frames, shape = pooled(operation, inputs[0], lambda x: (2 * sum(x) * 2**finer + size) // (2 * size))
    return frames, shape, inputs[0][2] + finer


def in_one_unit(inputs):
    finest = max(fraction for _, _, fraction in inputs)
    return [
        [[x << finest - fraction for x in currents] for currents in frames] for frames, _, fraction in inputs
    ], finest


def add(operation, inputs):
    (left, right), fraction = in_one_unit(inputs)
    sums = [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(left, right, strict=True)]
    return sums, inputs[0][1], fraction


def concatenate(operation, inputs):
    values, fraction = in_one_unit(inputs)
    shape = [sum(shape[0] for _, shape, _ in inputs), *inputs[0][1][1:]]
    return [list(itertools.chain(*parts)) for parts in zip(*values, strict=True)], shape, fraction


def reshape(operation, inputs):
    return inputs[0][0], operation["shape"], inputs[0][2]


def fire(operation, inputs):
    frames, shape, _ = inputs[0]
    trains = []
    for currents in zip(*frames, strict=True):
        residual, spikes = 0, []
        for current in currents:
            membrane = residual + current
            spikes.append(int(membrane >= operation["threshold"]))
            if spikes[-1]:
                membrane = 0 if operation["hard"] else membrane - operation["threshold"]
            residual = membrane * operation["decay"] + 2**15 >> 16
        trains.append(spikes)
    return [list(spikes) for spikes in zip(*trains, strict=True)], shape, 0


def sum_frames(operation, inputs):
    frames, shape, fraction = inputs[0]
    return [[sum(x) for x in zip(*frames, strict=True)]], shape, fraction


OPERATIONS = (relu, scale, max_pool, average_pool, add, concatenate, reshape, fire, sum_frames)
"""But for ``layer``, ``neuron`` and ``synapses``."""


def run(path, image):
    """Outputs and their fraction, for one input as a flat list of floats; linear layers on one axis alone."""
    program, tensors, _ = read(path)
    network_input = program["input"]
    scaled = [math.floor(x * 2.0 ** network_input["fraction"] + 0.5) for x in image]
    encoded = [min(max(x, -network_input["largest"]), network_input["largest"]) for x in scaled]
    size = math.prod(network_input["shape"])
    frames = [encoded[start : start + size] for start in range(0, len(encoded), size)]
    frames = frames * network_input["frames"] if network_input["repeated"] else frames
    assert len(frames) == network_input.get("frames", 1)
    values = [(frames, network_input["shape"], network_input["fraction"])]
    functions = {function.__name__: function for function in OPERATIONS}
    for operation in program["operations"]:
        inputs = [values[index] for index in operation["inputs"]]
        if operation["op"] == "layer":
            layer = program["layers"][operation["layer"]]
            values.append((*run_layer(layer, tensors, operation["layer"], *inputs[0]), layer["fraction"]))
        elif operation["op"] == "neuron":
            name = operation["layer"]
            steps = spike_steps(program["layers"][name], tensors, name)
            values.append(run_neuron(operation, program["layers"][name], steps, *inputs[0]))
        elif operation["op"] == "synapses":
            name, (frames, shape, _) = operation["layer"], inputs[0]
            values.append(run_synapses(program["layers"][name], tensors, name, frames, shape))
        else:
            values.append(functions[operation["op"]](operation, inputs))
    ((numbers,), _, fraction) = values[-1]
    return numbers, fraction
