"""Random networks in every format that holds them, each read by somebody else: the same integers, spikes and logits.

    BITSEARCH_EXAMPLES=1000 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/deploy/formats/test_generated.py

tries more than the suite does, and others each time.
"""

import os

import pytest
import torch
from boundaries import MARGIN, boundary_distance
from framed_networks import check_equal
from generated_networks import (
    MEMBRANES,
    Generated,
    designs,
    inputs,
    measured,
    plans,
    streamed_plans,
    streamed_steps,
    trained,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from nir_reader import run_nir
from packed_reader import run as run_by_hand
from profiles import examples
from spikingjelly.activation_based import neuron
from tolerances import rounding
from torch.utils.data import TensorDataset

from bitsearch import pack, read
from bitsearch.data import Splits
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.formats.onnx import check_onnx, export_onnx
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.errors import InputError

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore:kept at 32 bits"),
    pytest.mark.filterwarnings("ignore:never called"),
    pytest.mark.filterwarnings("ignore:nothing above zero has come"),
]
EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


def drawn(data, design, some_plans=plans, **options):
    """(quantized network, its plan) of a design."""
    network = Generated(design).eval()
    plan = data.draw(some_plans(measured(network), **options))
    return trained(network, plan, inputs(design, 24)), plan


def magnitude(network):
    """The most that the terms of a logit come to."""
    layer = network.classifier
    largest = (layer.spike_step * (2.0**layer.spike_bits - 1))[: layer.active_steps].max()
    return float((layer.quantized_weight().abs().sum(1) * largest + layer.bias.abs()).max().detach())


def kept_neurons(network):
    """Module paths of the neurons that are still spikingjelly's."""
    return [path for path, module in network.named_modules() if isinstance(module, neuron.BaseNode)]


@examples(EXAMPLES or 20)
@given(st.data(), designs())
def test_a_packed_file_is_read_from_its_description_alone(folder, data, design):
    network, _ = drawn(data, design, membranes=MEMBRANES)
    x = inputs(design, 6)
    try:
        check_equal(network, x)
    except AssertionError as error:
        # Hardly anything fires, or most of it just so.
        assume(not str(error).startswith(("nothing was compared", "most membranes are near a boundary")))
        raise
    pack(network, x, folder / "packed")
    packed = read(folder / "packed").replay()
    one = x[:, :1] if design.framed else x[:1]
    outputs, fraction = run_by_hand(folder / "packed", one.flatten().tolist())
    assert packed(one).tolist() == [outputs]
    assert fraction == packed.analysis.values[-1].fraction


@examples(EXAMPLES or 3)
@given(st.data(), designs())
def test_onnx_runtime_gets_the_networks_logits(folder, make_plan, data, design):
    network, plan = drawn(data, design)
    x = inputs(design, 24)
    few = x[:, :4] if design.framed else x[:4]
    if kept_neurons(network):
        with pytest.raises(InputError, match=f"layer '{kept_neurons(network)[0]}' cannot be exported to ONNX"):
            export_onnx(network, few, folder / "network.onnx", make_plan(plan))
        return
    export_onnx(network, few, folder / "network.onnx", make_plan(plan))
    tolerance = 2 * rounding(256) * magnitude(network)
    with torch.no_grad():
        logits = network(x).mean(0) if design.framed else network(x)
    first, second = logits.topk(2).values.T
    clear = (boundary_distance(network, x) > MARGIN) & (first - second > 2 * tolerance)
    assume(clear.sum() > 3)
    rows = (x.transpose(0, 1) if design.framed else x)[clear]
    part = TensorDataset(rows, torch.zeros(len(rows), dtype=torch.long))
    frames = design.frames if design.framed else None
    samples = Splits(part, part, part, input_shape=tuple(rows.shape[1:]), classes=3, frames=frames).test
    agreement = check_onnx(folder / "network.onnx", network, samples, batch_size=7)
    assert (agreement.samples, agreement.agreeing) == (len(rows), len(rows))
    assert agreement.difference * float(logits[clear].abs().max()) <= tolerance


@examples(EXAMPLES or 20)
@given(st.data(), designs(streamed_steps(), repeated=False, signed=False))
def test_a_nir_file_fires_as_its_network(folder, make_plan, data, design):
    network, plan = drawn(data, design, streamed_plans)
    x = inputs(design, 24)
    share_steps(network)
    if kept_neurons(network):
        with pytest.raises(InputError, match=f"layer '{kept_neurons(network)[0]}' cannot be expressed in NIR"):
            export_nir(network, x, folder / "network.nir", make_plan(plan))
        return
    export_nir(network, x, folder / "network.nir", make_plan(plan))
    clear = boundary_distance(network, x) > MARGIN
    assume(clear.sum() > 3)
    frames = x[:, clear] if design.framed else x[None, clear]
    with torch.no_grad():
        expected = network(frames if design.framed else frames[0]).reshape(len(frames), -1, 3)
    output = run_nir(folder / "network.nir", frames)["output"]
    torch.testing.assert_close(output, expected, rtol=0.0, atol=2 * rounding(256) * magnitude(network))
