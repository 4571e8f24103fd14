"""Float64 reference of the uniform quantizer and the refined neuron, written from the published equations."""

import math

import numpy as np


def level_range(bits, signed):
    """(q_min, q_max) of a grid."""
    if not signed:
        return 0, 2**bits - 1
    q_max = 2 ** (bits - 1) - 1 if bits >= 2 else 1
    return -q_max, q_max


def levels(x, step, bits, signed):
    """Integer levels x̄."""
    x = np.asarray(x, dtype=np.float64)
    if signed and bits == 1:
        return np.where(x < 0, -1.0, 1.0)
    q_min, q_max = level_range(bits, signed)
    return np.clip(np.rint(x / step), q_min, q_max)


def quantize(x, step, bits, signed):
    """s·x̄."""
    return levels(x, step, bits, signed) * step


def is_inside(x, step, bits, signed):
    """I: 1 inside the clip range, edges included."""
    q_min, q_max = level_range(bits, signed)
    scaled = np.asarray(x, dtype=np.float64) / step
    return ((scaled >= q_min) & (scaled <= q_max)).astype(np.float64)


def edge_slope(step, bits, signed):
    """∂(s·q_max)/∂b; one signed bit has the same edge as two, so none."""
    if signed:
        return math.log(2) * step * 2 ** (bits - 1) if bits >= 2 else 0.0 * step
    return math.log(2) * step * 2**bits


def quantize_gradients(x, step, bits, grad, signed):
    """(dx, ds, db) for one step, or one a channel as [C, 1, ...]; ds shaped like the step, db a number."""
    x, step = np.asarray(x, dtype=np.float64), np.asarray(step, dtype=np.float64)
    if step.ndim:
        parts = [
            quantize_gradients(x[channel], step[channel].item(), bits, grad[channel], signed)
            for channel in range(x.shape[0])
        ]
        dx = np.stack([part[0] for part in parts])
        return dx, np.reshape([part[1] for part in parts], step.shape), sum(part[2] for part in parts)
    _, q_max = level_range(bits, signed)
    dx, ds, db = np.zeros_like(x), 0.0, 0.0
    codes, inside = levels(x, step, bits, signed), is_inside(x, step, bits, signed)
    slope = float(edge_slope(step, bits, signed))
    for position in np.ndindex(x.shape):
        g, code = grad[position], codes[position]
        if inside[position]:
            dx[position] = g
            ds += g * (code - x[position] / step)
        else:
            ds += g * code
            db += g * np.sign(code) * slope
    return dx, ds / math.sqrt(max(x.size, 1) * q_max), db


def neuron_steps(x, steps, bits, time_steps, decay, signed):
    """[(u_t, o_t), ...]."""
    x = np.asarray(x, dtype=np.float64)
    membrane, trace = x, []
    for t in range(time_steps):
        spikes = quantize(membrane, steps[t], bits[t], signed)
        trace.append((membrane, spikes))
        membrane = decay * (membrane - spikes) + x
    return trace


def neuron(x, steps, bits, time_steps, decay, signed):
    """ō."""
    return sum(spikes for _, spikes in neuron_steps(x, steps, bits, time_steps, decay, signed)) / time_steps


def neuron_gradients(x, steps, bits, time_steps, decay, signed, grad):
    """(dx, ds, db, dT); ds and db as long as ``steps``, zero for unused time steps."""
    dx, ds, db = np.zeros_like(x, dtype=np.float64), np.zeros(len(steps)), np.zeros(len(steps))
    for t, (membrane, _) in enumerate(neuron_steps(x, steps, bits, time_steps, decay, signed)):
        # The residual is detached: u_t moves with x one to one, with earlier steps and bits not at all.
        through_x, ds[t], db[t] = quantize_gradients(membrane, steps[t], bits[t], grad / time_steps, signed)
        dx += through_x
    mean = neuron(x, steps, bits, time_steps, decay, signed)
    return dx, ds, db, -(grad * mean).sum() / time_steps


def renewal_loss(x, step, bits, signed):
    """mean|Q(x) − x|^2.4."""
    return np.mean(np.abs(quantize(x, step, bits, signed) - x) ** 2.4)


def best_of_grid(x, bits, signed, candidates=50):
    """The least loss over s = top·i/50/q_max, i = 1 … 50, each on the full tensor."""
    _, q_max = level_range(bits, signed)
    top = np.abs(x).max()
    return min(renewal_loss(x, top * i / candidates / q_max, bits, signed) for i in range(1, candidates + 1))
