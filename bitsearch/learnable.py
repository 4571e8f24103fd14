"""A user's own network with learnable bits, in one call: traced, held to its target, and made learnable."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bitsearch.allocation.learnable import LearnableNetwork
from bitsearch.choices import Choices, FirstLayer, NeuronChoice, Tie
from bitsearch.cost import (
    AllowedBits,
    CostModel,
    Target,
    check_first_layer,
    check_granularity,
    trace,
    warn_of_own_steps,
)
from bitsearch.data.inputs import KINDS, check_input
from bitsearch.declared_neuron import DeclaredNeuron
from bitsearch.deploy.rehearsal import rehearse
from bitsearch.errors import InputError
from bitsearch.frameworks.declared import declare_neuron
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.network_inputs import Inputs
from bitsearch.plan import UniformBits
from bitsearch.validation import shown


def quantize(
    network: nn.Module,
    example_input: Inputs,
    *,
    choices: Choices | None = None,
    start: UniformBits | None = None,
    first_layer: FirstLayer | None = None,
    baseline: UniformBits | None = None,
    granularity: str = "layer",
    spike_granularity: str | None = None,
    step_sizes: str = "free",
    decay: float | None = None,
    target: Target | str | None = None,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    time_axis: bool = False,
    signed_input: bool | None = None,
    neurons: Mapping[type[nn.Module], DeclaredNeuron] | None = None,
    neuron: NeuronChoice | Mapping[str, Any] | None = None,
    ties: Iterable[Tie | TieRule] = (),
    layers: Sequence[LayerRule | str] = (),
) -> LearnableNetwork:
    """Make a network's bits learnable: one of torch, SpikingJelly, snnTorch or Norse, step by step or on sequences.

    Every ``Conv1d``/``Conv2d``/``Conv3d`` and ``Linear`` becomes a quantized layer with a refined spiking neuron at its
    input, in place of the network's own; the first that runs gets fixed bits, since it sees the network's input.
    Weights are kept, ``network`` is left as it is. :attr:`LearnableNetwork.conversion` tells what became of what.

    Args:
        network: with ReLU-like activations, or spiking neurons.
        example_input: a batch as the network gets in use, to trace the layers with: ``[N, ...]``, or ``[T, N, ...]``;
            several inputs are a tuple, or a dict by the names of the network's arguments.
        choices: what a layer may get; 1–8 weight bits, 1–8 spike bits and 1–4 time steps by default.
        start: where the bits start; 4/4/2 by default, brought to what each layer may get.
        first_layer: the first layer's bits; 8/8/1 by default.
        baseline: what ``4x`` is a part of; w8 s4 T2 by default.
        granularity: one weight step a ``"layer"``, or one a ``"channel"``.
        spike_granularity: one spike step a time ``"step"``, or one a ``"layer"``, whose integers are narrower; by
            default the latter where the target's membranes or accumulators have a width.
        step_sizes: ``"free"``, or ``"power_of_two"``, for shifts in place of products and quotients.
        decay: membrane decay between time steps; by default as the network's own neurons have it, or 1.
        target: hardware target, or its name or path; ``generic`` by default.
        include: globs of module paths, such as ``features.*``: what gets bits.
        exclude: globs of module paths that keep 32 bits.
        time_axis: True if the example has one, ``[T, N, ...]``; where modules in spikingjelly's multi-step mode work on
            it, that is seen without being told.
        signed_input: True if inputs may be below zero; by default, if the example is anywhere. What comes below zero
            all the same is counted, and a warning says so.
        neurons: spiking neurons of your own classes, as :func:`bitsearch.declare_neuron` takes them.
        neuron: reset and start of the refined neurons, in place of what the network's own do: an object, or its fields,
            such as ``{"reset": "zero"}``.
        ties: layers that share numbers; layers with one weight (one parameter) have one weight width without it.
        layers: what layers may get whose names match, in place of the choices and of the first layer's bits; the last
            that matches one counts. Objects, or texts as on the command line, ``"conv1:spike_bits=[2, 4, 8]"``.

    Raises:
        InputError: the network cannot run the example, has nothing to quantize, nothing that the target allows, or no
            module that a glob matches; layers that share a number have no choice of it in common; or the format that
            the target names cannot express the network.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> quantized = bitsearch.quantize(network, torch.rand(16, 1, 8, 8))
    >>> quantized.layer_plans["conv2"].weight_bits
    4
    >>> plans = quantized.project("8x")  # exactly within the budget, bits frozen
    >>> quantized.budget("8x").met_by(quantized.model, plans)
    True
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network is {shown(network)}; give a torch module that is made")
    for kind, declaration in (neurons or {}).items():
        declare_neuron(kind, declaration)
    # Training is the user's own, and may be in double precision.
    double = any(parameter.dtype == torch.float64 for parameter in network.parameters())
    example_input = check_input(example_input, "example_input", (*KINDS, torch.float64) if double else KINDS)
    start = start or UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    first_layer = first_layer or FirstLayer()
    baseline = baseline or UniformBits(weight_bits=8, spike_bits=4, time_steps=2)
    hardware = target if isinstance(target, Target) else Target.load(target or "generic")
    check_granularity(granularity, hardware)
    warn_of_own_steps(spike_granularity, hardware)
    if spike_granularity not in (None, "step", "layer"):
        raise InputError(f"spike_granularity is {spike_granularity!r}; give 'step' or 'layer'")
    if not isinstance(time_axis, bool):
        raise InputError(
            f"time_axis is {time_axis!r}; give True if the example's first axis is time, [T, N, ...], or else False"
        )
    if step_sizes not in ("free", "power_of_two"):
        raise InputError(f"step_sizes is {step_sizes!r}; give 'free' or 'power_of_two'")
    check_first_layer(first_layer, hardware)
    geometry = trace(
        network,
        example_input,
        time_axis=time_axis,
        include=include,
        exclude=exclude,
        nonnegative_input=None if signed_input is None else not signed_input,
    )
    model = CostModel(geometry, first_layer_counted=first_layer.counted, target=hardware, ties=ties)
    model.choose_neurons(NeuronChoice().replace(neuron))
    named = [LayerRule.parse(rule) if isinstance(rule, str) else rule for rule in layers]
    rules = AllowedBits.make(model, choices or Choices(), first_layer, named)
    model = rules.stepped(model, spike_granularity or hardware.spike_granularity)
    rehearse(network, example_input, rules.smallest(model), hardware)
    return LearnableNetwork.learnable(
        network,
        model,
        rules=rules,
        start=start,
        baseline=baseline,
        granularity=granularity,
        step_sizes=step_sizes,
        decay=decay,
    )
