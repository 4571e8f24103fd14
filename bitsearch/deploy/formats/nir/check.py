"""A plan's NIR in the library of its dialect, beside the integer replay of its packed file, on whole splits."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from bitsearch.data import batches
from bitsearch.deploy.formats.format import ConsumerRequest, ExportResult
from bitsearch.deploy.formats.nir import readers
from bitsearch.deploy.formats.nir.dialects import DIALECTS
from bitsearch.deploy.formats.nir.export import export_nir
from bitsearch.deploy.integer.operations import RunLayer, RunNeuron
from bitsearch.errors import InputError
from bitsearch.network_inputs import single_input

PYTHON = "NIR_PYTHON"
"""The environment variable that names a Python which has the library, where this one has not."""


@torch.no_grad()
def check(request: ConsumerRequest) -> ExportResult:
    """Write the network in a dialect, let its library read and run it, and compare spikes and predictions.

    Raises:
        InputError: no Python has the library, or as :func:`.export_nir`.
    """
    dialect, packed = DIALECTS[request.consumer], request.packed
    python = _python(request.consumer)
    framed = any(layer.frames is not None for layer in packed.program.layers.values())
    replay, nodes = packed.replay(), _nodes(request)
    samples = predicted = spikes = different = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        export_nir(request.network, request.examples, folder / "network.nir", request.plan, dialect)
        count = 0
        for batch, _ in batches(request.samples, request.batch_size):
            inputs = single_input(batch, "a packed file")
            np.save(folder / f"{count}.npy", (inputs if framed else inputs[None]).numpy())
            count += 1
        _run(python, request.consumer, folder, count)
        for number in range(count):
            inputs = torch.from_numpy(np.load(folder / f"{number}.npy"))
            sent: dict[tuple[str, int], Tensor] = {}

            def observe(
                name: str, quantity: str, t: int, codes: Tensor, sent: dict[tuple[str, int], Tensor] = sent
            ) -> None:
                if quantity == "spikes":
                    sent[name, t] = codes

            outputs = replay(inputs if framed else inputs[0], observe)
            with np.load(folder / f"{number}.npz") as arrays:
                results = {name: torch.from_numpy(array) for name, array in arrays.items()}
            for (name, t), codes in sent.items():
                spikes += codes.numel()
                different += int((results[nodes[name]][t].reshape(codes.shape) != codes).sum())
            same = _classes(results["output"].mean(0)) == _classes(
                outputs.double().mean(0) if outputs.dim() == results["output"].dim() else outputs
            )
            samples, predicted = samples + len(same), predicted + int(same.sum())
    line = f"{dialect.reader}: {predicted} of {samples} samples are predicted as by the integer replay; "
    return ExportResult((f"{line}{different} of {spikes} spikes differ",), equal=predicted == samples)


def _nodes(request: ConsumerRequest) -> dict[str, str]:
    """The node of NIR that fires what an operation of the integer program does, by the operation's name."""
    nodes = {}
    for run in request.packed.program.operations:
        if isinstance(run, RunLayer):
            nodes[run.name] = f"{run.layer}.neuron"
        elif isinstance(run, RunNeuron):
            # Where a layer has several in their places: an operation is named as an identifier of the module's path.
            paths = sorted(request.plan.layers[run.layer].neurons or (), key=len, reverse=True)
            named = (path for path in paths if run.name.lstrip("_").startswith(path.replace(".", "_")))
            nodes[run.name] = paths[0] if len(paths) == 1 else next(named)
    return nodes


def _classes(outputs: Tensor) -> Tensor:
    return outputs.argmax(1)


def _python(library: str) -> str:
    """The interpreter that is to read; InputError where it is this one, and lacks a module."""
    python = os.environ.get(PYTHON)
    missing = [module for module in readers.READERS[library].modules if find_spec(module) is None]
    if python is None and missing:
        raise InputError(
            f"{', '.join(missing)} is not installed here; install it, or name a Python that has it in {PYTHON}"
        )
    return python or sys.executable


def _run(python: str, library: str, folder: Path, count: int) -> None:
    files = [
        str(folder / name) for number in range(count) for name in ("network.nir", f"{number}.npy", f"{number}.npz")
    ]
    command = [python, "-W", "ignore", readers.__file__, library, *files]
    try:
        finished = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise InputError(f"{PYTHON} is {python!r}, which cannot be started: {error.strerror}") from error
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise InputError(f"{python} cannot run the network in {library}: {reason}")
