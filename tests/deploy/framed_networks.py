"""Networks with a time axis, and whether they are replayed exactly."""

import torch
from calibration import calibrate
from float_network import check_near

from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.lower.float64_reference import Float64Reference
from bitsearch.deploy.lower.lowering import lower
from bitsearch.frameworks.spikingjelly import LAYERS
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan

FRAMES = 8


def framed(time_steps, *, frames=FRAMES, bits=3, **changes):
    spike_bits = tuple(max((bits + t) % 5, 1) for t in range(time_steps))
    setting = {"weight_bits": 4, "spike_bits": spike_bits, "time_steps": time_steps, "frames": frames, "decay": 1.0}
    return LayerPlan(**(setting | changes))


def events(*shape, seed=0):
    """Small counts, most of them zero."""
    return torch.poisson(torch.full(shape, 0.6), generator=torch.Generator().manual_seed(seed))


def prepared(network, examples, time_steps=3, **bits):
    names = [name for name, module in network.named_modules() if type(module) in (*LAYERS, *LAYERS.values())]
    frames = examples.shape[0]
    plan = {name: framed(min(time_steps, frames), frames=frames, **bits) for name in names}
    return calibrate(convert(network, plan), examples)


def check_equal(network, examples):
    """Replay and network agree on every spike and output; returns the lowered network."""
    lowered = lower(network, examples)
    replay = Replay(lowered.program, lowered.numbers)
    replayed, reference = {}, {}
    outputs = replay(
        examples, lambda name, quantity, t, codes: quantity == "spikes" and replayed.update({(name, t): codes.long()})
    )
    exact = Float64Reference(lowered)(examples, lambda name, quantity, t, codes: reference.update({(name, t): codes}))
    assert replayed.keys() == reference.keys()
    for key, codes in replayed.items():
        assert torch.equal(codes, reference[key]), key
    assert sum(codes.unique().numel() > 1 for codes in replayed.values()) > len(replayed) / 2, "nothing was compared"
    assert torch.equal(torch.ldexp(outputs.double(), torch.tensor(-replay.analysis.values[-1].fraction)), exact)
    check_near(network, lowered, examples)
    return lowered
