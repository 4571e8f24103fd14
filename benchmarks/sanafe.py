"""What SANA-FE's Loihi makes of one event network: its spikes, and energies beside the hardware target's table.

    pip install sanafe==2.2.9       # GPL-3: in an environment of its own, on top of this package's
    python -m benchmarks.sanafe --run reports/events --out reports/benchmarks

``--run`` is a finished run whose plan NIR holds: event data, one-bit spikes, a step a frame, one threshold a layer. Its
layers are mapped onto the cores of the architecture file that SANA-FE ships for the first Loihi, each from a core of
its own on; what lies between neurons, pooling too, becomes synapses, one a weight that is not zero. The spikes that
encode some test samples are fed in. Which neurons fire is compared with NIR's equations, which the package's tests hold
against the network, and the energy with the target's table and with SpikingJelly's models, all of the same samples.
"""

import argparse
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import nir
import numpy as np
import sanafe
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.provenance import machine, made_by
from bitsearch.deploy.formats.nir.dialects import DIALECTS, PLAIN
from bitsearch.deploy.formats.nir.graph import nir_graph
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.energy_models import ENERGY_MODELS
from bitsearch.energy_models.comparison import estimates
from bitsearch.files import write_whole
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import BitPlan
from bitsearch.runs.rebuild import rebuild
from bitsearch.train.evaluate import measure_activity

SCALE = 2.0**16
"""Of all potentials: SANA-FE's neurons cut them off at 64ths, as Loihi's have whole numbers."""
NEURONS_A_CORE = 1024


@dataclass(frozen=True)
class Stage:
    """Neurons, and the synapses that lead to them from the stage in front."""

    name: str
    weight: Tensor
    """``[inputs, neurons]``."""
    bias: Tensor
    threshold: Tensor
    rest: Tensor
    """Where membranes start, and leak to."""
    decay: float
    convolution: bool


def connect(node: nir.NIRNode, x: Tensor) -> Tensor:
    """One node that is no neuron, of ``[N, ...]``."""
    if isinstance(node, nir.Conv2d):
        weight, bias = torch.as_tensor(node.weight), torch.as_tensor(node.bias)
        return functional.conv2d(x, weight, bias, _ints(node.stride), _ints(node.padding), _ints(node.dilation))
    if isinstance(node, nir.Affine):
        return functional.linear(x, torch.as_tensor(node.weight), torch.as_tensor(node.bias))
    if isinstance(node, nir.AvgPool2d):
        return functional.avg_pool2d(x, _ints(node.kernel_size), _ints(node.stride), _ints(node.padding))
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    if isinstance(node, nir.Scale):
        return x * torch.as_tensor(node.scale)
    raise SystemExit(
        f"{type(node).__name__} is not mapped onto SANA-FE; take a chain of convolutions and linear layers"
    )


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.ravel(values))


def stages(graph: nir.NIRGraph) -> tuple[str, list[Stage]]:
    """(the node that encodes the input, what follows it); ends the program at a network that branches."""
    following = dict(graph.edges)
    if len(following) < len(graph.edges):
        raise SystemExit("the network branches; take a chain of layers")
    encoder = following["input"]
    shape = tuple(graph.nodes[encoder].v_threshold.shape)
    found: list[Stage] = []
    passed, name, convolution = [], following[encoder], False
    while True:
        node = graph.nodes[name]
        if not isinstance(node, nir.IF | nir.LIF | nir.Output):
            passed.append(node)
            convolution |= isinstance(node, nir.Conv2d)
            name = following[name]
            continue
        count = int(np.prod(shape))
        batch = torch.cat([torch.zeros(1, count), torch.eye(count)]).reshape(-1, *shape)
        for one in passed:
            batch = connect(one, batch)
        shape, rows = tuple(batch.shape[1:]), batch.flatten(1)
        size = rows.shape[1]
        never = torch.full((size,), 2.0**10)
        threshold, rest, decay = never, torch.zeros(size), 1.0
        if not isinstance(node, nir.Output):
            threshold, rest = (torch.as_tensor(one).flatten() for one in (node.v_threshold, node.v_reset))
        if isinstance(node, nir.LIF):
            decay = 1 - 1e-4 / float(node.tau.flat[0])
        found.append(Stage(name, rows[1:] - rows[0], rows[0], threshold, rest, decay, convolution))
        if isinstance(node, nir.Output):
            return encoder, found
        passed, name, convolution = [], following[name], False


def simulated(spikes: Tensor, layers: list[Stage]) -> tuple[list[Tensor], dict[str, float]]:
    """(spikes ``[T, neurons]`` of every stage but the last, energies in pJ) for the input's spikes ``[T, inputs]``.

    What a stage sends is there a time step later, so that each begins one later than the one in front.
    """
    architecture = sanafe.load_loihi()
    cores = architecture.cores()
    network, steps, used = sanafe.Network(), len(spikes), 0
    before = network.create_neuron_group("input", spikes.shape[1], soma_hw_name="loihi_inputs[0]")
    for index, train in enumerate(spikes.bool().T.tolist()):
        attributes = {"spikes": train + [False] * len(layers)}
        before[index].set_attributes(soma_hw_name=f"loihi_inputs[{index}]", model_attributes=attributes)
        before[index].map_to_core(cores[used])
    used += 1
    for layer in layers:
        attributes = {
            "threshold": 0.0,
            "leak_decay": layer.decay,
            "reset_mode": "soft",
            "reverse_threshold": -(2.0**24),
            "input_decay": 0.0,
        }
        group = network.create_neuron_group(
            layer.name,
            len(layer.bias),
            attributes,
            "loihi_conv_synapse" if layer.convolution else "loihi_dense_synapse",
            "loihi_dendrites",
            False,
            True,
            "loihi_lif",
        )
        for index, threshold in enumerate((layer.threshold * SCALE).tolist()):
            group[index].set_attributes(model_attributes={"threshold": threshold})
            group[index].map_to_core(cores[used + index // NEURONS_A_CORE])
        used += 1 + (len(layer.bias) - 1) // NEURONS_A_CORE
        pairs = layer.weight.nonzero().tolist()
        weights = (layer.weight[layer.weight != 0] * SCALE).tolist()
        before.connect_neurons_sparse(group, {"w": weights}, [tuple(pair) for pair in pairs])
        before = group
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    fired = [torch.zeros(steps, len(layer.bias)) for layer in layers]
    energies: dict[str, float] = {}
    for step in range(steps + len(layers)):
        for number, layer in enumerate(layers):
            # The bias of a stage while its time steps run.
            t = step - 1 - number
            if t in (0, 1, steps):
                bias = torch.zeros_like(layer.bias)
                if t < steps:
                    bias = (layer.bias + layer.rest * (1 if t == 0 else 1 - layer.decay)) * SCALE
                neurons = chip.mapped_neuron_groups[layer.name]
                for index, value in enumerate(bias.tolist()):
                    neurons[index].set_attributes(model_attributes={"bias": value})
        result = chip.sim(1, "simple", spike_trace=True)
        for name, value in result["energy"].items():
            energies[name] = energies.get(name, 0.0) + value * 1e12
        for addresses in result["spike_trace"]:
            for address in addresses:
                number = next((n for n, layer in enumerate(layers) if layer.name == address.group_name), None)
                if number is not None and 0 <= step - 1 - number < steps:
                    fired[number][step - 1 - number, address.neuron_offset] = 1
    return fired[:-1], energies


def sent_by(graph: nir.NIRGraph, x: Tensor) -> dict[str, Tensor]:
    """By node, what the neurons of the graph send for one sample ``[T, 1, ...]``, by NIR's equations."""
    spikes: dict[str, list[Tensor]] = {}
    following, membranes = dict(graph.edges), {}
    for frame in x:
        name, value = following["input"], frame
        while not isinstance(node := graph.nodes[name], nir.Output):
            if isinstance(node, nir.IF | nir.LIF):
                threshold, rest = (torch.as_tensor(one) for one in (node.v_threshold, node.v_reset))
                decay = 1.0 if isinstance(node, nir.IF) else 1 - 1e-4 / float(node.tau.flat[0])
                v = membranes.get(name, rest.expand_as(value))
                v = rest + decay * (v - rest) + value
                value = (v > threshold).float()
                membranes[name] = v - value * threshold
                spikes.setdefault(name, []).append(value.flatten())
            else:
                value = connect(node, value)
            name = following[name]
    return {name: torch.stack(steps) for name, steps in spikes.items()}


def rows(run: Path, count: int) -> list[str]:
    """The table of a run."""
    plan = BitPlan.load(run / "plan.json")
    network, task = rebuild(run / "plan.json")
    network.eval()
    share_steps(network)
    graph = nir_graph(network, task.examples, DIALECTS[PLAIN])
    encoder, layers = stages(graph)
    x = torch.stack([task.splits.test[index][0] for index in range(count)], 1)
    energies, equal, neurons, spiked = [], 0, 0, 0
    for sample in x.split(1, 1):
        expected = sent_by(graph, sample)
        fired, energy = simulated(expected[encoder], layers)
        energies.append(energy)
        for layer, spikes in zip(layers, fired, strict=False):
            equal += int((spikes == expected[layer.name]).sum())
            neurons += spikes.numel()
            spiked += int(spikes.sum())
    samples = list(x.split(1, 1))
    counted = QuantizedNetwork(network, task.model, task.rules, task.space.baseline)
    table = task.model.cost("energy", plan.layers, measure_activity(counted, *samples))
    models = estimates(list(ENERGY_MODELS), network, task.model, samples)
    total = fmean(energy["total"] for energy in energies)
    lines = [
        f"{equal} of {neurons} spikes and silences are those of NIR's equations ({spiked} spikes in all); "
        f"{sum(int((layer.weight != 0).sum()) for layer in layers)} synapses.",
        "",
        "| by | energy of an input, nJ | × target |",
        "|---|---|---|",
        f"| target `{task.model.target.name}` | {table / 1000:.3g} | 1 |",
        f"| SANA-FE, all | {total / 1000:.3g} | {total / table:.2f} |",
    ]
    for part in ("synapse", "dendrite", "soma", "network"):
        value = fmean(energy[part] for energy in energies)
        lines.append(f"| SANA-FE, {part} | {value / 1000:.3g} | {value / table:.2f} |")
    for name, estimate in models.items():
        lines.append(f"| SpikingJelly, {name} | {estimate.total / 1000:.3g} | {estimate.total / table:.2f} |")
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    command = BitPlan.load(arguments.run / "plan.json").provenance.command
    table = "\n".join(rows(arguments.run, arguments.samples))
    text = (
        f"# SANA-FE's Loihi beside the target's table\n\nThe plan of `{command}`; the mean of "
        f"{arguments.samples} test samples; sanafe {version('sanafe')} with its own `loihi.yaml`. "
        f"{machine()}.\n\n{table}\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "sanafe.md", text)
    print(text)


if __name__ == "__main__":
    main()
