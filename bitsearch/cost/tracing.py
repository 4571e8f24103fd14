"""Tracing a network: its layers measured, which of them get bits, and what becomes of its spiking neurons."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from bitsearch.cost.geometry import DEPENDS_ON_DATA, EXCLUSION_REASONS, NEVER_CALLED, LayerGeometry, NetworkGeometry
from bitsearch.cost.measurement import counted_where_stored, measured_layers, record_plain
from bitsearch.cost.streams import Streams
from bitsearch.errors import InputError
from bitsearch.layer_rules import matches
from bitsearch.network_inputs import Inputs


def trace(
    network: nn.Module,
    example_input: Inputs,
    names: Iterable[str] | None = None,
    *,
    time_axis: bool = False,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    nonnegative_input: bool | None = None,
) -> NetworkGeometry:
    """Run ``example_input`` (``[N, ...]``) through ``network`` and measure every layer, as :func:`measure` does.

    Args:
        network: any module; its mode, weights and buffers are unchanged.
        example_input: a batch of the network's inputs; several are a tuple or a dict, as
            :func:`bitsearch.network_inputs.call_network` takes them.
        names: module paths of the layers to return; None for all that :func:`measure` returns.
        time_axis: True if the example has a time axis, ``[T, N, ...]``.
        include: globs of module paths; a layer gets bits if it, or a module around it, matches one.
        exclude: globs of module paths without bits; they take precedence over ``include``.
        nonnegative_input: True if no input is ever below zero; by default, if the example is nowhere.

    Returns:
        With ``names``, these layers, of which the first is marked as ``first``. Without, the layers that can be given
        bits and those with a ``fixed_reason``; warnings then list the layers that keep 32 bits and those never called.

    Raises:
        InputError: the network cannot run the example, has no layer that can be given bits, or a glob has no match.
    """
    network, recording = record_plain(network, example_input, time_axis, nonnegative_input)
    layers = _with_exclusions(measured_layers(network, recording), network, include, exclude)
    layers = counted_where_stored(layers, network, recording)
    if names is not None:
        name_set = set(names)
        measured = [layer for layer in layers if layer.fixed_reason is None and layer.name in name_set]
        layers = [replace(layer, first=index == 0) for index, layer in enumerate(measured)]
    if all(layer.fixed_reason for layer in layers):
        reasons = "".join(f"; {layer.name or '(the network)'}: {layer.fixed_reason}" for layer in layers[:3])
        raise InputError(f"the network has no convolution or linear layer that could be quantized{reasons}")
    if names is None:
        silent = (None, NEVER_CALLED, *EXCLUSION_REASONS)
        _warn("kept at 32 bits", [layer for layer in layers if layer.fixed_reason not in silent])
        _warn("never called, and kept at 32 bits", [layer for layer in layers if layer.fixed_reason == NEVER_CALLED])
    dependent = [layer.name for layer in layers if layer.data_dependent]
    if dependent:
        warnings.warn(f"{DEPENDS_ON_DATA}: {', '.join(dependent)}; costs are those of the example", stacklevel=2)
    if recording.mixes_samples:
        warnings.warn("in evaluation mode, a sample's result changes with the rest of its batch", stacklevel=2)
    first = next((layer.name for layer in layers if layer.first and layer.fixed_reason is None), None)
    streams = Streams(network, recording, {layer.name for layer in layers if layer.fixed_reason is None}, first)
    paths = {module: name for name, module in network.named_modules()}
    poolings = {paths[module]: kind for module, kind in recording.poolings.items()}
    return NetworkGeometry(tuple(_with_neurons(layers, streams)), streams.staying, poolings)


def _with_neurons(layers: list[LayerGeometry], streams: Streams) -> list[LayerGeometry]:
    """The layers, with the neurons that give way to theirs, and what these do."""
    layers = [
        replace(
            layer,
            neurons=streams.neurons(layer.name),
            decay=streams.decay(layer.name, layer.frames),
            neuron=streams.settings(layer.name),
            largest_spike=streams.largest_spike(layer.name),
        )
        for layer in layers
    ]
    sources = streams.sources()
    return [replace(_in_place(layer, streams), source=sources.get(layer.name)) for layer in layers]


def _in_place(layer: LayerGeometry, streams: Streams) -> LayerGeometry:
    if layer.fixed_reason is not None or not streams.in_place(layer.name):
        return layer
    owner = streams.stream(layer.name)[0]
    steps = streams.sequence_steps(layer.name)
    if steps is not None:
        # Of whole sequences, counts are those of a step, as in a loop over them.
        layer = replace(layer, macs=layer.macs // steps, inputs=layer.inputs // steps, frames=steps, loop="frames")
    if streams.reads_steps(layer.name):
        layer = replace(layer, loop="frames")
    return replace(
        layer,
        in_place=True,
        membranes=streams.membranes(layer.name),
        stream_of=None if owner == layer.name else owner,
    )


def _with_exclusions(
    layers: list[LayerGeometry], network: nn.Module, include: Sequence[str], exclude: Sequence[str]
) -> list[LayerGeometry]:
    """The layers, with a ``fixed_reason`` for those that the globs exclude."""
    paths = [name for name, _ in network.named_modules()]
    for glob in (*include, *exclude):
        if not any(fnmatchcase(path, glob) for path in paths):
            names = ", ".join(layer.name for layer in layers if layer.fixed_reason is None)
            raise InputError(f"no module matches {glob!r}; the layers that can be given bits: {names}")

    def reason(layer: LayerGeometry) -> str | None:
        if layer.fixed_reason is None and not matches(layer.name, include):
            return EXCLUSION_REASONS[0]
        if layer.fixed_reason is None and matches(layer.name, exclude):
            return EXCLUSION_REASONS[1]
        return layer.fixed_reason

    return [replace(layer, fixed_reason=reason(layer)) for layer in layers]


def _warn(message: str, layers: list[LayerGeometry]) -> None:
    if layers:
        # An operation between the layers of the whole network has the empty path.
        names = ", ".join(layer.name or "(the network)" for layer in layers)
        warnings.warn(f"{message}: {names}", stacklevel=3)
