"""The export to NIR: a plan's network as a file, in the dialect that its reader speaks."""

import io
import os
from pathlib import Path

import torch
from torch import nn

from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.formats.nir.dialects import DIALECTS, PLAIN, Dialect, SpikingNeuron
from bitsearch.deploy.formats.nir.graph import nir_graph
from bitsearch.deploy.formats.nir.nodes import refused
from bitsearch.deploy.formats.shared_steps import share_steps_of
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.files import write_whole
from bitsearch.layers import QuantizedLayer
from bitsearch.network_inputs import Inputs, single_input
from bitsearch.plan import BitPlan
from bitsearch.version import __version__


def export(request: ExportRequest) -> ExportResult:
    """Write the file, with shared step sizes where they are asked for; InputError as :func:`export_nir`."""
    dialect = DIALECTS[request.dialect]
    line = f"{request.output}: as NIR" + ("" if dialect is DIALECTS[PLAIN] else f" for {dialect.reader}")
    if request.share_steps:
        line += f"; {share_steps_of(request)}"
    settings = export_nir(request.network, request.task.examples, request.output, request.plan, dialect)
    return ExportResult((line, *settings))


@torch.no_grad()
def export_nir(
    network: nn.Module,
    example_input: Inputs,
    path: str | os.PathLike[str],
    plan: BitPlan,
    dialect: Dialect = DIALECTS[PLAIN],
) -> tuple[str, ...]:
    """Write a trained quantized network to ``path`` as NIR; its output is the logits of every step.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: a batch ``[N, ...]``, or ``[T, N, ...]`` with a time axis, to trace it with.
        path: HDF5 file to write, whole or not at all.
        plan: kept in the graph's metadata; every node has its layer's bits in its own.
        dialect: whose reader is to compute the network.

    Returns:
        What its reader has to set once it has read the file.

    Raises:
        InputError: a layer is not trained, or one that NIR or the reader cannot express; names it.
    """
    import nir

    example_input = single_input(example_input, "a NIR graph")
    layers = trained_layers(network)
    for name, layer in layers.items():
        _check(name, layer)
    graph = nir_graph(network, example_input, dialect)
    plan_text = plan.model_dump_json(exclude_none=True)
    graph.metadata = {"bitsearch": __version__, "plan": plan_text, "dt": dialect.dt, "dialect": dialect.name}
    content = io.BytesIO()
    nir.write(content, graph)
    if dialect.nir_1_0_4:
        _strip(content)
    write_whole(Path(path), content.getvalue())
    settings = (dialect.setting(SpikingNeuron.of(layer)) for layer in layers.values())
    return tuple(dict.fromkeys(setting for setting in settings if setting is not None))


def _strip(content: io.BytesIO) -> None:
    """Leave out of a file what nodes of nir 1.0.4 do not have: it reads nothing else."""
    import h5py

    with h5py.File(content, "r+") as file:
        for node in file["node/nodes"].values():
            for part in ("metadata", "v_reset"):
                if part in node:
                    del node[part]


def _check(name: str, layer: QuantizedLayer) -> None:
    plan = layer.layer_plan
    if plan.frames is None and plan.time_steps > 1:
        raise refused(
            name,
            f"it passes on the mean of its {plan.time_steps} time steps of a static input, and a stream has no mean; "
            "NIR holds event data, or plans of 1 time step",
        )
    if plan.frames is not None and plan.time_steps != plan.frames:
        raise refused(
            name, f"its {plan.time_steps} time steps pool {plan.frames} frames; NIR's nodes have a step a frame"
        )
    if set(plan.spike_bits) != {1}:
        raise refused(name, f"its spikes have {max(plan.spike_bits)} bits; NIR's neurons have 1")
    if plan.signed_input:
        raise refused(name, "its input may be negative, and its spikes with it; NIR's are 0 and 1")
    if plan.neuron is not None and plan.neuron.reset == "delayed":
        raise refused(name, "its neuron is reset a step late; train one that is reset at once")
    steps = layer.spike_step[: plan.time_steps]
    if not bool((steps == steps[0]).all()):
        raise refused(
            name,
            f"its step sizes are {float(steps.min()):.4g} to {float(steps.max()):.4g} over the time steps, and NIR's "
            "thresholds stay; --share-steps gives it one",
        )
