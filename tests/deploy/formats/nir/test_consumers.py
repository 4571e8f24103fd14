"""Libraries of environments of their own read the files that are for them, and send every spike of the networks."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from boundaries import MARGIN, boundary_distance
from dialect_networks import BATCH, FRAMES, NETWORKS, mlp, pooled, quantized, scaled_mlp, spikes_of
from tolerances import summed

from bitsearch.deploy.formats.nir import readers
from bitsearch.deploy.formats.nir.dialects import DIALECTS
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.formats.shared_steps import share_steps
from bitsearch.layers import quantized_layers
from bitsearch.plan import NeuronSettings

ROOT = Path(__file__).parents[4]
RESETS = {
    "norse": [NeuronSettings(reset="zero"), NeuronSettings(reset="zero", threshold="full")],
    "sinabs": [NeuronSettings(threshold="full"), NeuronSettings(threshold="full", strict=True)],
}
"""By library, the neurons that it has."""
IN_MLP, IN_POOLED = {"1.neuron": "1", "4.neuron": "4"}, {"0.neuron": "0", "1": "3"}
MAKERS = {
    "dense": lambda frames, **plan: (quantized(mlp(), frames, NETWORKS[mlp], **plan), IN_MLP),
    "scaled": lambda frames, **plan: (quantized(scaled_mlp(), frames, NETWORKS[scaled_mlp], **plan), IN_MLP),
    "pooled": lambda frames, **plan: (pooled(frames, **plan), IN_POOLED),
}


def cases(library):
    """By name, (network, its inputs, layers by the nodes of their neurons)."""
    frames = torch.rand(FRAMES, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    made = {}
    for number, settings in enumerate(RESETS[library]):
        for decay in (1.0, 0.6):
            for name, make in MAKERS.items():
                network, names = make(frames, neuron=settings, decay=decay)
                made[f"{name}, {number}, {decay}"] = network, frames, names
    single = quantized(mlp(), frames[0], NETWORKS[mlp], spike_bits=(1,), time_steps=1, frames=None)
    return made | {"one step": (single, frames[0], IN_MLP)}


@pytest.mark.processes
@pytest.mark.parametrize("library", RESETS)
def test_every_spike_is_the_networks(library, make_plan, tmp_path):
    python = ROOT / ".venv-consumers" / library / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{library} is not installed; make consumers installs it")
    made, files = cases(library), []
    for number, (network, inputs, _) in enumerate(made.values()):
        share_steps(network)
        plan = make_plan({name: layer.layer_plan for name, layer in quantized_layers(network).items()})
        files.append([str(tmp_path / f"{number}{suffix}") for suffix in (".nir", ".npy", ".npz")])
        export_nir(network, inputs, files[-1][0], plan, DIALECTS[library])
        np.save(files[-1][1], inputs.numpy() if inputs.dim() == 5 else inputs[None].numpy())
    command = [str(python), "-W", "ignore", readers.__file__, library, *np.ravel(files).tolist()]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    fired = 0
    for (case, (network, inputs, names)), (_, _, results) in zip(made.items(), files, strict=True):
        with np.load(results) as arrays:
            sent = {name: torch.from_numpy(array) for name, array in arrays.items()}
        assert boundary_distance(network, inputs).min() > MARGIN, case
        spikes, expected = spikes_of(network, inputs, names.values())
        for node, name in names.items():
            assert torch.equal(sent[node].reshape(spikes[name].shape), spikes[name].round()), (case, node)
            fired += int(0 < spikes[name].mean() < 1)
        torch.testing.assert_close(sent["output"].reshape(expected.shape), expected, **summed(64))
    assert fired > len(made)
