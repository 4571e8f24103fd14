"""hls4ml takes the QONNX file: its C++ in fixed point predicts what the integer replay does."""

import importlib.util
import itertools
import shutil

import pytest
import torch
from calibration import calibrate
from torch import nn

import bitsearch
from bitsearch import pack, read
from bitsearch.deploy.formats import FORMATS, ConsumerRequest
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, NeuronSettings

pytest.importorskip("qonnx", reason="qonnx is not installed: pip install 'bitsearch[qonnx]'")

from bitsearch.deploy.formats.qonnx import hls

HERE = importlib.util.find_spec("hls4ml") is not None and shutil.which("g++") is not None


@pytest.fixture(scope="module")
def data():
    return bitsearch.load_data("digits", {}, split_seed=0)


@pytest.fixture
def request_of(make_plan, tmp_path, data):
    """A request to let hls4ml run a small network of digits in these bits."""

    def make(last=(), epochs=0, **changes):
        torch.manual_seed(2)
        modules = (
            nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 10),
        )
        bits = {"weight_bits": 4, "spike_bits": (4,), "time_steps": 1} | changes
        plan = {"0": LayerPlan(signed_input=True, **bits), "5": LayerPlan(**bits | dict(last))}
        examples = data.train[:64][0]
        network = convert(nn.Sequential(*modules), plan).train()
        optimizer = torch.optim.Adam(network.parameters(), 2e-2)
        for inputs, labels in itertools.chain(
            *(bitsearch.batches(data.train, 64, torch.Generator()) for _ in range(epochs))
        ):
            loss = nn.functional.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network = calibrate(network, examples)
        pack(network, examples, tmp_path / "packed", make_plan(plan))
        return ConsumerRequest("hls4ml", read(tmp_path / "packed"), network, make_plan(plan), examples, data.test, 360)

    return make


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.skipif(
    not HERE, reason="hls4ml or g++ is not installed: pip install 'bitsearch[hls4ml]', apt-get install g++"
)
def test_a_network_of_digits_predicts_what_the_replay_does(request_of):
    request = request_of(epochs=2)
    result = FORMATS["qonnx"].consume(request)
    assert result.equal, result.lines
    width, whole = hls.precision(request.packed)
    assert result.lines[0].startswith(f"hls4ml in fixed<{width},{whole}>: 360 of 360 samples are predicted as by the")
    difference = float(result.lines[0].split("at most ")[1].split()[0])
    # hls4ml returns float32.
    assert difference < 1e-6
    predictions = request.packed.replay()(request.samples[:][0]).argmax(1)
    assert len(predictions.unique()) > 4


def test_precision_holds_every_current_to_its_last_bit(request_of):
    packed = request_of(step_sizes="power_of_two").packed
    width, whole = hls.precision(packed)
    for value in packed.analysis.values[1:]:
        assert value.magnitude < 2 ** (whole - 1 + value.fraction)
        assert value.fraction <= width - whole
    layer = packed.program.layers["0"]
    most = (
        packed.analysis.operations[0].widths.accumulator * 2.0**-layer.step_fraction * int(packed.numbers["0"].steps[0])
    )
    # A factor that is off by half of its last bit.
    assert most * 2.0 ** -(width - whole + 1) < 2.0**-layer.fraction


@pytest.mark.parametrize(
    ("module", "program", "message"),
    [("hls4ml", None, "hls4ml is not installed"), (None, "g++", "hls4ml compiles with g[+][+], which is not here")],
)
def test_what_is_missing_is_named(module, program, message, request_of, monkeypatch):
    request = request_of()
    monkeypatch.setattr(hls, "find_spec", lambda name: None if name == module else object())
    monkeypatch.setattr(hls.shutil, "which", lambda name: None if name == program else name)
    with pytest.raises(InputError, match=message):
        FORMATS["qonnx"].consume(request)


@pytest.mark.skipif(
    not HERE, reason="hls4ml or g++ is not installed: pip install 'bitsearch[hls4ml]', apt-get install g++"
)
def test_what_hls4ml_cannot_take_is_refused_in_its_words(request_of):
    neuron = NeuronSettings(threshold="full", reset="zero")
    with pytest.raises(InputError, match="hls4ml cannot take this network: ERROR: Unsupported operation type: Equal"):
        FORMATS["qonnx"].consume(request_of({"neuron": neuron, "spike_bits": (2, 2), "time_steps": 2}))
