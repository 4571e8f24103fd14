"""``verify --with`` a library: its spikes and predictions beside the integer replay of the packed file."""

import sys

import pytest
import torch
from dialect_networks import BATCH, FRAMES, NETWORKS, mlp, pooled, quantized
from torch.utils.data import TensorDataset

from bitsearch import pack, read
from bitsearch.deploy.formats import FORMATS, ConsumerRequest
from bitsearch.deploy.formats.nir import readers
from bitsearch.errors import InputError
from bitsearch.layers import quantized_layers
from bitsearch.plan import NeuronSettings

ZERO = NeuronSettings(reset="zero")


class Recordings(TensorDataset):
    frames = FRAMES


@pytest.fixture
def request_of(make_plan, tmp_path):
    """A request to let SpikingJelly run a network that is packed."""

    def make(network, frames, samples, change=lambda network: None):
        pack(network, frames, tmp_path / "packed")
        change(network)
        plan = make_plan({name: part.layer_plan for name, part in quantized_layers(network).items()})
        return ConsumerRequest("spikingjelly", read(tmp_path / "packed"), network, plan, frames, samples, 3)

    return make


@pytest.fixture(scope="module")
def frames():
    return torch.rand(FRAMES, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def here(monkeypatch):
    """The library's network is run in this process."""
    monkeypatch.setattr(
        "bitsearch.deploy.formats.nir.check._run",
        lambda python, library, folder, count: readers.main(
            [library] + [str(folder / name) for n in range(count) for name in ("network.nir", f"{n}.npy", f"{n}.npz")]
        ),
    )


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda frames: quantized(mlp(), frames, NETWORKS[mlp], neuron=ZERO, spike_granularity="layer"), 40),
        (lambda frames: pooled(frames, neuron=ZERO, spike_granularity="layer"), 72),
    ],
)
def test_every_spike_of_whole_recordings_is_the_replays(make, settings, frames, request_of, here):
    network = make(frames)
    samples = Recordings(frames.transpose(0, 1), torch.zeros(BATCH, dtype=torch.long))
    result = FORMATS["nir"].consume(request_of(network, frames, samples))
    (line,) = result.lines
    assert result.equal
    assert line.startswith(f"SpikingJelly: {BATCH} of {BATCH} samples are predicted as by the integer replay; 0 of ")
    assert int(line.split("; 0 of ")[1].split()[0]) >= settings * FRAMES * BATCH


@pytest.mark.processes
def test_static_inputs_are_a_step_each_and_another_network_is_seen(frames, request_of):
    def other(network):
        network[1].bias.add_(1.0)
        network[4].bias.copy_(torch.tensor([9.0, -9.0, -9.0]))

    bits = {"spike_bits": (1,), "time_steps": 1, "frames": None, "neuron": ZERO}
    samples = TensorDataset(frames[0], torch.zeros(BATCH, dtype=torch.long))
    network = quantized(mlp(), frames[0], NETWORKS[mlp], **bits)
    with torch.no_grad():
        network[4].bias.copy_(torch.tensor([-9.0, 9.0, -9.0]))
        assert FORMATS["nir"].consume(request_of(network, frames[0], samples)).equal
        result = FORMATS["nir"].consume(request_of(network, frames[0], samples, other))
    assert not result.equal
    assert result.lines[0].startswith(f"SpikingJelly: 0 of {BATCH} samples")


def test_a_python_without_the_library_is_refused(frames, request_of, monkeypatch):
    network = quantized(mlp(), frames, NETWORKS[mlp], neuron=ZERO, spike_granularity="layer")
    request = request_of(network, frames, Recordings(frames.transpose(0, 1), torch.zeros(BATCH, dtype=torch.long)))
    monkeypatch.setenv("NIR_PYTHON", "/none/such")
    with pytest.raises(InputError, match="NIR_PYTHON is '/none/such', which cannot be started"):
        FORMATS["nir"].consume(request)
    monkeypatch.delenv("NIR_PYTHON")
    monkeypatch.setitem(sys.modules, "nirtorch", None)
    with pytest.raises(InputError, match=r"nirtorch is not installed here; .* in NIR_PYTHON"):
        FORMATS["nir"].consume(request)
