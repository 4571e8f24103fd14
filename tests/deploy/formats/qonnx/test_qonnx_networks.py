"""Random networks in both forms of QONNX, run by its own executor, beside the integer replay.

    BITSEARCH_EXAMPLES=500 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/deploy/formats/qonnx/test_qonnx_networks.py

tries more than the suite does, and others each time.
"""

import os
from dataclasses import replace

import pytest
import torch
from boundaries import MARGIN, boundary_distance
from generated_networks import MEMBRANES, Generated, designs, inputs, measured, plans, trained
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from tolerances import rounding

from bitsearch import pack, read
from bitsearch.errors import InputError

pytest.importorskip("qonnx", reason="qonnx is not installed: pip install 'bitsearch[qonnx]'")

from bitsearch.deploy.formats.qonnx.check import executed
from bitsearch.deploy.formats.qonnx.quantized import quantized_model
from bitsearch.deploy.formats.qonnx.thresholds import threshold_model

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore:kept at 32 bits"),
    pytest.mark.filterwarnings("ignore:never called"),
    pytest.mark.filterwarnings("ignore:nothing above zero has come"),
]
EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("qonnx")


def packed_of(folder, network, x):
    pack(network, x, folder / "packed")
    return read(folder / "packed")


def as_real(packed, x):
    """(the replay's mean outputs, their unit)."""
    network_input, unit = packed.program.input, 2.0 ** -packed.analysis.values[-1].fraction
    return packed.replay()(x).double() * unit / (network_input.frames or 1), unit


def run(model, packed, x):
    """Outputs of a graph, whose batches come first."""
    framed = packed.program.input.frames is not None and not packed.program.input.repeated
    return executed(model)(x.transpose(0, 1) if framed else x).double()


def most(packed):
    """The largest output that the last layer's weights allow, and the sum of its terms' magnitudes."""
    (layer,) = list(packed.program.layers.values())[-1:]
    numbers = packed.numbers[next(reversed(packed.program.layers))]
    spikes = sum(int(step) * layer.q_max(t) for t, step in enumerate(numbers.steps)) * 2.0**-layer.step_fraction
    gains = abs(numbers.multiplier) * 2.0 ** -(layer.shift + layer.fraction - layer.step_fraction)
    terms = abs(numbers.levels.astype(int)).reshape(layer.outputs, -1).sum(1) * spikes * gains
    return float((terms + abs(numbers.bias) * 2.0**-layer.fraction).max())


@examples(EXAMPLES or 5)
@given(st.data(), designs())
def test_quantizers_compute_what_the_replay_does(folder, data, design):
    network, x = Generated(design).eval(), inputs(design, 16)
    network = trained(network, data.draw(plans(measured(network))), x)
    packed = packed_of(folder, network, x)
    outputs = run(quantized_model(packed), packed, x)
    expected, unit = as_real(packed, x)
    clear = boundary_distance(network, x) > 16 * MARGIN
    assume(clear.sum() > 3)
    assert (outputs - expected)[clear].abs().max() <= unit + 2 * rounding(256) * most(packed)


INEXACT = ("norm", "overlapping", "hard lif")
"""Steps whose numbers are no powers of two."""


def exact(design):
    """A design like this one, whose sums float32 holds."""
    program = tuple(step for step in design.program if step[0] not in INEXACT)
    return replace(design, program=program, frames=2 if design.frames == 3 else design.frames)


@examples(EXAMPLES or 5)
@given(st.data(), designs())
def test_in_powers_of_two_every_output_is_the_replays(folder, data, design):
    design = exact(design)
    network, x = Generated(design).eval(), inputs(design, 16)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_((8 * parameter).round() / 8)
    plan = {}
    for name, layer in data.draw(plans(measured(network), membranes=MEMBRANES)).items():
        spikes = layer.spike_bits if layer.frames else layer.spike_bits[:2]
        exactly = {"spike_bits": spikes, "time_steps": len(spikes), "step_sizes": "power_of_two"}
        plan[name] = layer.model_copy(update=exactly)
    packed = packed_of(folder, trained(network, plan, x), x)
    expected, _ = as_real(packed, x)
    assert torch.equal(run(quantized_model(packed), packed, x), expected)


EXPRESSED = ("cannot be expressed in thresholds: ", "thresholds for its")


@examples(EXAMPLES or 6)
@given(st.data(), designs(repeated=False))
def test_thresholds_give_every_output_of_the_replay(folder, data, design):
    design = replace(design, frames=None)
    network, x = Generated(design).eval(), inputs(design, 16)
    plan = {
        name: layer.model_copy(update={"spike_granularity": "layer"})
        for name, layer in data.draw(plans(measured(network))).items()
    }
    packed = packed_of(folder, trained(network, plan, x), x)
    try:
        model = threshold_model(packed)
    except InputError as error:
        assert any(reason in str(error) for reason in EXPRESSED)  # noqa: PT017
        assume(False)
    expected, _ = as_real(packed, x)
    assert torch.equal(run(model, packed, x), expected)
