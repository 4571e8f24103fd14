import re

import nir
import numpy as np
import pytest
import torch
from boundaries import MARGIN, boundary_distance
from calibration import calibrate
from dialect_networks import BATCH, FRAMES, Branches, mlp, quantized, scaled_mlp, spikes_of
from nir_reader import run_nir
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir, import_from_nir
from tolerances import summed
from torch import nn

from bitsearch.deploy.formats import FORMATS, ExportRequest
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import BitPlan, LayerPlan, NeuronSettings
from bitsearch.space import SearchSpace
from bitsearch.train.task import load_task


@pytest.fixture(scope="module")
def events():
    return torch.rand(FRAMES, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0)).round()


@pytest.mark.parametrize("decay", [1.0, 0.6, 0.0])
@pytest.mark.parametrize(
    ("make", "names"), [(mlp, ("1", "4")), (scaled_mlp, ("1", "4")), (Branches, ("conv1", "conv2", "conv3"))]
)
def test_a_file_spikes_as_its_network_at_every_step(make, names, decay, events, make_plan, tmp_path):
    network = quantized(make(), events, names, decay=decay)
    share_steps(network)
    plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
    export_nir(network, events, tmp_path / "network.nir", plan)
    assert boundary_distance(network, events).min() > MARGIN
    outputs = run_nir(tmp_path / "network.nir", events)
    spikes, output = spikes_of(network, events, names)
    for name in names:
        assert torch.equal(outputs[f"{name}.neuron"], spikes[name].round()), name
        assert 0 < spikes[name].mean() < 1
    torch.testing.assert_close(outputs["output"], output, **summed(64))


@pytest.mark.parametrize("decay", [1.0, 0.6])
@pytest.mark.parametrize("node", [neuron.IFNode(), neuron.IFNode(v_threshold=0.5)], ids=["IF", "scaled"])
def test_a_neuron_in_front_of_pooling_is_a_node_there(node, decay, events, make_plan, tmp_path):
    modules = (layer.Conv2d(2, 4, 3, padding=1), node, layer.AvgPool2d(2), layer.Conv2d(4, 3, 3), layer.Flatten())
    network = nn.Sequential(*modules)
    functional.set_step_mode(network, "m")
    bits = {"weight_bits": 3, "spike_bits": (1,) * FRAMES, "time_steps": FRAMES, "frames": FRAMES, "decay": decay}
    plan = {
        "0": LayerPlan(**bits, neurons=()),
        "3": LayerPlan(**bits, neurons=("1",), pooled=True, in_place=True),
    }
    torch.manual_seed(0)
    network = calibrate(convert(network, plan), events)
    share_steps(network)
    export_nir(network, events, tmp_path / "network.nir", make_plan(plan))
    assert boundary_distance(network, events).min() > MARGIN
    outputs = run_nir(tmp_path / "network.nir", events)
    assert ("3.neuron" in outputs, "1.gain" in outputs) == (False, node.v_threshold != 1)
    spikes, output = spikes_of(network, events, ("0", "3"))
    assert torch.equal(outputs["1"], spikes["3"].round())
    assert outputs["1"].shape == (FRAMES, BATCH, 4, 6, 6)
    assert 0 < spikes["3"].mean() < 1
    torch.testing.assert_close(outputs["output"], output, **summed(64))


@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_networks_own_neurons_are_written_as_what_they_are(reset, strict, decay, events, make_plan, tmp_path):
    settings = NeuronSettings(reset=reset, threshold="full", strict=strict, largest=1)
    network = quantized(mlp(), events, ("1", "4"), decay=decay, neuron=settings)
    plan = make_plan({name: part.layer_plan for name, part in quantized_layers(network).items()})
    # The events are zeros and ones, so that the first neurons have many a membrane at their threshold.
    export_nir(network, events, tmp_path / "network.nir", plan)
    outputs = run_nir(tmp_path / "network.nir", events)
    spikes, _ = spikes_of(network, events, ("1", "4"))
    assert torch.equal(outputs["1.neuron"], spikes["1"])
    assert 0 < spikes["1"].mean() < 1
    node = nir.read(tmp_path / "network.nir").nodes["1.neuron"]
    assert node.metadata["reset"] == reset
    assert not np.any(node.v_reset)
    assert np.all(node.v_threshold < 1) == (not strict)


@pytest.mark.parametrize(("make", "names"), [(mlp, ("1", "4")), (Branches, ("conv1", "conv2", "conv3"))])
def test_spikingjelly_reads_a_file_and_spikes_as_its_network(make, names, events, make_plan, tmp_path):
    network = quantized(make(), events, names)
    share_steps(network)
    plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
    export_nir(network, events, tmp_path / "network.nir", plan)
    assert boundary_distance(network, events).min() > MARGIN
    check_in_spikingjelly(tmp_path / "network.nir", network, events, names)


def check_in_spikingjelly(file, network, frames, names):
    """nirtorch builds the graph, of spikingjelly's modules; frame by frame, its spikes and logits are the network's."""
    imported = import_from_nir(file)
    layers = {name: network.get_submodule(name).layer_plan for name in names}
    trains = {plan.neurons[0] if plan.in_place else f"{name}_neuron": [] for name, plan in layers.items()}
    for name, module in imported.named_modules():
        if isinstance(module, neuron.IFNode):
            # It knows hard resets only; a soft one is put in its place, as the nodes' metadata say.
            module.v_reset = None
        elif name in trains:
            module.register_forward_hook(lambda _, x, result, train=trains[name]: train.append(result[0]))
    state, outputs = None, []
    with torch.no_grad():
        for frame in frames:
            output, state = imported(frame, state)
            outputs.append(output)
    spikes, expected = spikes_of(network, frames, names)
    for name, train in zip(names, trains.values(), strict=True):
        assert torch.equal(torch.stack(train), spikes[name].round()), name
        assert 0 < spikes[name].mean() < 1, name
    torch.testing.assert_close(torch.stack(outputs), expected, **summed(64))


@pytest.fixture(scope="module")
def shipped():
    """(quantized network, its plan's layers, task) of the space that ends in NIR."""
    task = load_task(SearchSpace.load("digits_events_nir"), device="cpu")
    layers = task.rules.nearest(task.model, task.space.baseline, granularity="layer")
    network = convert(task.untrained, layers)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # The statistics of the examples themselves, as after a training, so that every layer fires.
            module.momentum = None
    return calibrate(network, task.examples), layers, task


def test_the_shipped_space_for_nir_ends_in_a_file_that_spikes_as_its_network(shipped, make_plan, tmp_path):
    network, layers, task = shipped
    plan = make_plan(layers, space="digits_events_nir", network="digits_events_cnn")
    request = ExportRequest(network, plan, task, tmp_path / "network.nir", share_steps=True)
    (line,) = FORMATS["nir"].export(request).lines
    assert re.fullmatch(r".*network\.nir: as NIR; test accuracy 0\.\d{4}, with shared steps 0\.\d{4}", line)
    frames = task.examples[:, boundary_distance(network, task.examples) > MARGIN]
    assert frames.shape[1] > len(task.examples[0]) / 2
    check_in_spikingjelly(tmp_path / "network.nir", network, frames, layers)
    assert BitPlan.from_json(nir.read(tmp_path / "network.nir").metadata["plan"]) == plan


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_and_depthwise_convolutions_spike_as_their_network(groups, events, make_plan, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3),
        neuron.IFNode(v_reset=None),
        layer.Conv2d(4, 8, 3, groups=groups),
        layer.BatchNorm2d(8),
        layer.Flatten(),
        layer.Linear(32, 3),
    )
    names = ("0", "2", "5")
    network = quantized(network, events, names)
    share_steps(network)
    plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
    export_nir(network, events, tmp_path / "network.nir", plan)
    assert boundary_distance(network, events).min() > MARGIN
    outputs = run_nir(tmp_path / "network.nir", events)
    spikes, output = spikes_of(network, events, names)
    for name in names:
        assert torch.equal(outputs[f"{name}.neuron"], spikes[name].round()), name
    torch.testing.assert_close(outputs["output"], output, **summed(64))


def test_what_the_package_refuses_is_one_line(events, make_plan, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("type mismatch:\n[4] -> [2]")

    network = quantized(mlp(), events, ("1", "4"))
    share_steps(network)
    monkeypatch.setattr(nir, "NIRGraph", refuse)
    with pytest.raises(
        InputError, match=r"the nir package refuses the network's graph: type mismatch: \[4\] -> \[2\];"
    ):
        export_nir(network, events, tmp_path / "no.nir", make_plan({"1": network[1].layer_plan}))
    assert list(tmp_path.iterdir()) == []


class Averaging(Branches):
    """With its mean over the time axis for an output."""

    def forward(self, x):
        return super().forward(x).mean(0)


def test_a_mean_over_time_at_the_end_is_left_to_the_reader(events, make_plan, tmp_path):
    names = ("conv1", "conv2", "conv3")
    network = quantized(Averaging(), events, names)
    share_steps(network)
    plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
    export_nir(network, events, tmp_path / "network.nir", plan)
    assert boundary_distance(network, events).min() > MARGIN
    output = run_nir(tmp_path / "network.nir", events)["output"]
    assert output.shape == (FRAMES, BATCH, 3)
    torch.testing.assert_close(output.mean(0), network(events).detach(), **summed(64))


def test_spikingjellys_exporter_refuses_a_soft_reset():
    # The reason why graphs are built with nir itself: once this fails, it can take over.
    with pytest.raises(NotImplementedError, match="soft reset"):
        export_to_nir(nn.Sequential(neuron.IFNode(v_reset=None)), torch.zeros(1, 2))


def test_a_single_step_is_a_threshold(make_plan, tmp_path):
    images = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    network = quantized(mlp(), images, ("1", "4"), spike_bits=(1,), time_steps=1, frames=None)
    export_nir(network, images, tmp_path / "network.nir", make_plan({"1": network[1].layer_plan}))
    assert isinstance(nir.read(tmp_path / "network.nir").nodes["4.neuron"], nir.Threshold)
    assert boundary_distance(network, images).min() > MARGIN
    outputs = run_nir(tmp_path / "network.nir", images[None])
    torch.testing.assert_close(outputs["output"][0], network(images).detach(), **summed(64))


def test_bits_and_plan_are_in_the_metadata(events, make_plan, tmp_path):
    network = quantized(mlp(), events, ("1", "4"), granularity="channel")
    share_steps(network)
    plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
    export_nir(network, events, tmp_path / "network.nir", plan)
    graph = nir.read(tmp_path / "network.nir")
    assert BitPlan.from_json(graph.metadata["plan"]) == plan
    assert graph.nodes["1"].metadata["weight_bits"] == 3
    assert graph.nodes["1"].metadata["weight_step"] == pytest.approx(network[1].weight_step.detach().flatten().tolist())
    assert graph.nodes["4.neuron"].metadata["spike_bits"] == 1


def test_sharing_takes_the_geometric_mean(events):
    network = quantized(mlp(), events, ("1", "4"))
    with torch.no_grad():
        network[4].spike_log_step.copy_(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).log())
    assert share_steps(network)["4"] == pytest.approx(16)
    torch.testing.assert_close(network[4].spike_step.detach(), torch.full((FRAMES,), 4.0))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"frames": None}, "layer '1' cannot be expressed in NIR: it passes on the mean of its 5 time steps"),
        ({"spike_bits": (1, 1), "time_steps": 2}, "layer '1' .*its 2 time steps pool 5 frames"),
        ({"spike_bits": (1, 1, 3, 1, 1)}, "layer '1' .*its spikes have 3 bits"),
        ({"signed_input": True}, "layer '1' .*its input may be negative"),
        ({}, "layer '4' .*step sizes are .* --share-steps"),
    ],
)
def test_what_nir_cannot_express_is_refused_by_the_layers_name(plan, message, events, make_plan, tmp_path):
    inputs = events[0] if plan.get("frames", FRAMES) is None else events
    network = quantized(mlp(), inputs, ("1", "4"), **plan)
    with pytest.raises(InputError, match=message):
        export_nir(network, inputs, tmp_path / "no.nir", make_plan({"1": network[1].layer_plan}))
    assert list(tmp_path.iterdir()) == []


def test_a_rectifier_of_its_own_is_refused(events, make_plan, tmp_path):
    network = nn.Sequential(*mlp()[:3], nn.ReLU(), layer.Linear(8, 3))
    network = quantized(network, events, ("1", "4"))
    share_steps(network)
    with pytest.raises(InputError, match="layer '3' cannot be expressed in NIR: it is ReLU"):
        export_nir(network, events, tmp_path / "no.nir", make_plan({"1": network[1].layer_plan}))


def test_a_neuron_whose_currents_a_plan_clips_is_refused_by_its_class(events, make_plan, tmp_path):
    # Plans that do not say what reads what clip currents, as they did before neurons could fire in front of pooling.
    modules = (layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(), layer.AvgPool2d(2), layer.Conv2d(4, 3, 3))
    network = quantized(nn.Sequential(*modules, layer.Flatten()), events, ("0", "3"))
    share_steps(network)
    with pytest.raises(InputError, match=r"layer '1' cannot be expressed in NIR: it is IFNode, .*made anew") as refused:
        export_nir(network, events, tmp_path / "no.nir", make_plan({"0": network[0].layer_plan}))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_neuron_that_stays_is_refused_by_its_class(events, make_plan, tmp_path):
    first, second = neuron.LIFNode(v_threshold=0.1), neuron.IFNode(v_threshold=0.1)
    modules = (layer.Conv2d(2, 4, 3, padding=1), first, second, layer.Conv2d(4, 3, 3))
    network = nn.Sequential(*modules, layer.Flatten())
    functional.set_step_mode(network, "m")
    bits = {"weight_bits": 3, "spike_bits": (1,) * FRAMES, "time_steps": FRAMES, "frames": FRAMES}
    plan = {"0": LayerPlan(**bits, neurons=()), "3": LayerPlan(**bits, neurons=("2",))}
    network = calibrate(convert(network, plan), events)
    share_steps(network)
    with pytest.raises(InputError, match=r"layer '1' cannot be expressed in NIR: it is LIFNode, .* says why it stays"):
        export_nir(network, events, tmp_path / "no.nir", make_plan(plan))
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_that_the_package_reads_otherwise_is_refused_by_its_layers_name(events, make_plan, tmp_path):
    network = nn.Sequential(layer.Conv2d(2, 4, (3, 2), stride=2, padding=1), layer.Flatten(), layer.Linear(48, 3))
    network = quantized(network, events, ("0",))
    share_steps(network)
    with pytest.raises(InputError, match=r"layer '0' .*its result has shape \(4, 3, 4\), .* as \(4, 3, 3\)"):
        export_nir(network, events, tmp_path / "no.nir", make_plan({"0": network[0].layer_plan}))
    assert list(tmp_path.iterdir()) == []
