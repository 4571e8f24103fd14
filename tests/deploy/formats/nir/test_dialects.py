"""Every dialect, read by the released importer of its library and run on its neurons, beside the network."""

import nir
import pytest
import torch
from boundaries import MARGIN, boundary_distance
from dialect_networks import BATCH, FRAMES, NETWORKS, Branches, mlp, pooled, quantized, scaled_mlp, spikes_of
from spikingjelly.activation_based import functional, layer
from tolerances import summed
from torch import nn

from bitsearch.deploy.formats.nir.dialects import DIALECTS
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.formats.nir.readers import READERS, run
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.errors import InputError
from bitsearch.layers import quantized_layers
from bitsearch.plan import NeuronSettings

HERE = ("spikingjelly", "snntorch")
"""Those in the environment of the tests; the others are run by ``test_consumers.py``."""
SETTING = "SpikingJelly's importer resets hard: set v_reset = None in every neuron that it makes"


@pytest.fixture(scope="module")
def events():
    return torch.rand(FRAMES, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def export(make_plan, tmp_path):
    """Writes a network in a dialect: (file, what is to be set once it is read)."""

    def write(network, inputs, dialect):
        share_steps(network)
        plan = make_plan({name: part.layer_plan for name, part in quantized_layers(network).items()})
        path = tmp_path / f"{dialect}.nir"
        return path, export_nir(network, inputs, path, plan, DIALECTS[dialect])

    return write


def check(dialect, path, network, frames, names):
    """Its importer's network spikes as the quantized one, and yields the same."""
    pytest.importorskip(READERS[dialect].modules[0])
    assert boundary_distance(network, frames).min() > MARGIN
    results = run(READERS[dialect], path, frames)
    spikes, expected = spikes_of(network, frames, names.values())
    for node, name in names.items():
        assert torch.equal(results[node], spikes[name].round()), node
        assert 0 < spikes[name].mean() < 1, node
    torch.testing.assert_close(results["output"], expected, **summed(64))


HARD = [
    (1.0, {"threshold": "half"}),
    (0.6, {"threshold": "half"}),
    (1.0, {"threshold": "full"}),
    (0.9, {"threshold": "full", "strict": True}),
]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize(("decay", "settings"), HARD)
@pytest.mark.parametrize("dialect", HERE)
def test_neurons_that_are_reset_to_zero_are_the_librarys_own(dialect, make, decay, settings, events, export):
    neuron = NeuronSettings(reset="zero", **settings)
    network = quantized(make(), events, NETWORKS[make], decay=decay, neuron=neuron)
    path, settings = export(network, events, dialect)
    assert settings == ()
    check(dialect, path, network, events, {f"{name}.neuron": name for name in NETWORKS[make]})


@pytest.mark.parametrize(("decay", "threshold"), [(1.0, "half"), (1.0, "full"), (0.6, "full")])
def test_a_soft_reset_is_spikingjellys_where_it_is_set(decay, threshold, events, export):
    network = quantized(Branches(), events, NETWORKS[Branches], decay=decay, neuron=NeuronSettings(threshold=threshold))
    path, settings = export(network, events, "spikingjelly")
    assert settings == (SETTING,)
    check("spikingjelly", path, network, events, {f"{name}.neuron": name for name in NETWORKS[Branches]})


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dialect", HERE)
def test_a_membrane_at_its_threshold_fires_as_the_networks_does(dialect, strict, events, export):
    # Currents are whole numbers, and the threshold is one: many a membrane is at it.
    settings = NeuronSettings(reset="zero", threshold="full", strict=strict)
    network = quantized(mlp(), events.round(), NETWORKS[mlp], neuron=settings)
    path, _ = export(network, events.round(), dialect)
    spikes, _ = spikes_of(network, events.round(), ("1",))
    assert torch.equal(run(READERS[dialect], path, events.round())["1.neuron"], spikes["1"])


@pytest.mark.parametrize("dialect", HERE)
def test_neurons_in_front_of_pooling_and_scales_are_read_as_well(dialect, events, export):
    network = pooled(events, neuron=NeuronSettings(reset="zero"))
    path, _ = export(network, events, dialect)
    assert {type(node).__name__ for node in nir.read(path).nodes.values()} - {"Input", "Output"} <= (
        DIALECTS[dialect].nodes
    )
    check(dialect, path, network, events, {"0.neuron": "0", "1": "3"})


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("dialect", HERE)
def test_a_single_time_step_is_a_neuron_that_fires_from_rest(dialect, make, events, export):
    network = quantized(make(), events[0], NETWORKS[make], spike_bits=(1,), time_steps=1, frames=None)
    path, settings = export(network, events[0], dialect)
    assert settings == ()
    results = run(READERS[dialect], path, events[:1])
    assert boundary_distance(network, events[0]).min() > MARGIN
    spikes, expected = spikes_of(network, events[0], NETWORKS[make])
    for name in NETWORKS[make]:
        assert torch.equal(results[f"{name}.neuron"][0], spikes[name].round())
    torch.testing.assert_close(results["output"][0], expected, **summed(64))


@pytest.mark.parametrize(
    ("dialect", "decay", "message"),
    [
        ("spikingjelly", 0.6, r'layer \'1\' .*leaks to the half step .* start = "zero", .* --dialect plain has it'),
        ("spikingjelly", 0.0, r"layer '1' .*decays by 0, .* takes no LIF that keeps nothing"),
        (
            "snntorch",
            1.0,
            r"layer '1' .*subtracts its spikes, and snnTorch's importer resets to zero; .* reset = \"zero\"",
        ),
        ("norse", 1.0, r"layer '1' .*subtracts its spikes, and Norse's importer resets to zero; .* reset = \"zero\""),
        ("sinabs", 1.0, r"layer '1' .*starts at half a step, and sinabs' importer .* start = \"zero\""),
    ],
)
def test_a_neuron_that_a_library_has_not_is_refused_by_its_layers_name(dialect, decay, message, events, export):
    network = quantized(scaled_mlp(), events, NETWORKS[scaled_mlp], decay=decay)
    with pytest.raises(InputError, match=message):
        export(network, events, dialect)


def test_a_neuron_that_is_reset_late_is_refused_by_all(events, export):
    network = quantized(mlp(), events, NETWORKS[mlp], neuron=NeuronSettings(reset="delayed", threshold="full"))
    for dialect in DIALECTS:
        with pytest.raises(InputError, match=r"layer '1' cannot be expressed in NIR: its neuron is reset a step late"):
            export(network, events, dialect)


def test_nodes_that_a_library_has_not_are_refused_by_name(export):
    sequences = torch.rand(FRAMES, BATCH, 2, 6, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(layer.Conv1d(2, 4, 3), layer.Flatten(), layer.Linear(16, 3))
    functional.set_step_mode(network, "m")
    network = quantized(network, sequences, ("0", "2"), neuron=NeuronSettings(reset="zero"))
    with pytest.raises(InputError, match=r"layer '0' .*snnTorch's importer reads no Conv1d; --dialect plain has it"):
        export(network, sequences, "snntorch")
    path, _ = export(network, sequences, "spikingjelly")
    check("spikingjelly", path, network, sequences, {"0.neuron": "0", "2.neuron": "2"})


@pytest.mark.parametrize(("dialect", "reset"), [("norse", "zero"), ("sinabs", "subtract")])
def test_branches_are_refused_where_an_importer_runs_them_in_another_order(dialect, reset, events, export):
    settings = NeuronSettings(reset=reset, threshold="full")
    network = quantized(Branches(), events, NETWORKS[Branches], neuron=settings)
    with pytest.raises(InputError, match=r"layer 'conv2.neuron' .*branches, and \w+'s importer runs chains"):
        export(network, events, dialect)


def test_a_reset_to_zero_is_refused_where_a_library_subtracts(events, export):
    network = quantized(mlp(), events, NETWORKS[mlp], neuron=NeuronSettings(reset="zero"))
    with pytest.raises(InputError, match=r"layer '1' .*is reset to zero, and sinabs' importer .* reset = \"subtract\""):
        export(network, events, "sinabs")


def test_files_name_their_dialect_and_its_step(events, export):
    for name, dialect in DIALECTS.items():
        reset = "subtract" if name == "sinabs" else "zero"
        settings = NeuronSettings(reset=reset, threshold="full")
        network = quantized(mlp(), events, NETWORKS[mlp], neuron=settings)
        metadata = nir.read(export(network, events, name)[0], type_check=False).metadata
        assert (metadata["dialect"], float(metadata["dt"])) == (name, dialect.dt)
