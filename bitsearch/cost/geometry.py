"""Layer geometry, traced on the real network by a recorded forward pass."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bitsearch.cost.layer_shape import LayerShape, shape_of_layer
from bitsearch.cost.spike_products import factor_bits
from bitsearch.cost.streams import Streams
from bitsearch.dataflow.recording import Call, Recording, record
from bitsearch.errors import InputError, located
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.plain_layers import has_plain_layers, with_plain_layers
from bitsearch.layer_rules import matches
from bitsearch.network_inputs import Inputs, shape_of, shape_text
from bitsearch.plan import Loop, NeuronSettings
from bitsearch.quant.uniform import q_max

NEVER_CALLED = "never called"
"""``LayerGeometry.fixed_reason`` of a layer that the example's forward pass does not call."""
DEPENDS_ON_DATA = "whether it runs, and on how much, depends on the data"
"""What is noted of a layer whose counts are those of the example alone."""
EXCLUSION_REASONS = ("not included", "excluded")
"""``LayerGeometry.fixed_reason`` of a layer that no ``include``, or an ``exclude``, matches."""


@dataclass(frozen=True)
class LayerGeometry:
    """Counts of one layer for one input and one time step, from which the cost of any bits follows."""

    name: str
    """Module path in the network."""
    macs: int
    """Multiply-accumulates; conventions in :func:`bitsearch.dataflow.products.layer_macs`."""
    weights: int
    """Weight elements, without biases; those of a weight that several modules share stand at one of them: the first,
    or the first that keeps 32 bits, since the weight then does."""
    inputs: int
    """Input features, each of which is a spike; 0 for a module without multiplications."""
    outputs: int
    """Output channels, each of which has a bias; of a module without channels, its biases."""
    signed_input: bool
    """True unless the operations in front of the layer let nothing below zero through."""
    follows_input: bool = field(default=False, kw_only=True)
    """True if that is so for inputs of the network that are never below zero alone."""
    first: bool
    """True for the first layer with weights in the forward pass."""
    head: bool = field(default=False, kw_only=True)
    """True if the network returns what it computes, or what neurons make of that."""
    fixed_reason: str | None = None
    """The reason for which the layer cannot be given bits; None if it can."""
    factor_bits: tuple[float, float] | None = None
    """Without weights, the mean bits of what it multiplies, wider and narrower; None where these are not spikes."""
    frames: int | None = None
    """Length of its input's time axis, or of the loop that calls it once a frame; None without one."""
    is_static_input: bool = False
    """True if the example did not change along that axis: a static input, repeated."""
    loop: Loop | None = None
    """What its calls have to do with each other, where one input makes several."""
    calls: int = 1
    """How often it is called for one input."""
    call_inputs: int | None = None
    """Input features of its largest call; None for those of all."""
    reads: str = ""
    """What its input comes from, in words."""
    neurons: tuple[str, ...] = ()
    """Module paths of the spiking neurons that give way to its own."""
    pooled: bool = False
    """True if their spikes are pooled, added up or scaled before the layer reads them."""
    in_place: bool = False
    """True if the layer's neurons stand where these do, in front of that."""
    membranes: int | None = None
    """How many neurons it has where they stand, each with a membrane; None: one for every input."""
    stream_of: str | None = None
    """The first layer that has its neurons in place in common with it, where it is not this one."""
    source: str | None = None
    """The first layer that reads the same values, where it is not this one: they may have one stream of spikes."""
    decay: float | None = None
    """Membrane decay of the neurons that it reads; 0 where they stay, None if there are none."""
    silent: bool = False
    """True if all that it got from the example was zero."""
    data_dependent: bool = False
    """True if it ran more or less often, or on more or less, for another example."""
    weight_of: str | None = None
    """The first module that has the layer's own weight, where it is not this one: they are one parameter."""
    largest_spike: float | None = None
    """The largest that the neurons send which it reads; None where they send any, or where it reads something else."""
    neuron: NeuronSettings | None = None
    """Reset and comparison of the neurons that give way to its own, if any."""
    shape: LayerShape | None = None
    """Kind, kernel, stride and channels of a layer that can be given bits; None in scores kept by earlier versions."""

    def code_sum(self, spike_bits: Sequence[int]) -> int:
        """The most that the levels of one input's spikes add up to: of all time steps, or with frames of one."""
        levels = [q_max(bits, signed=self.signed_input) for bits in spike_bits]
        return max(levels) if self.frames is not None else sum(levels)


@dataclass(frozen=True)
class NetworkGeometry(Sequence[LayerGeometry]):
    """The layers of a network, in the order they run, and what becomes of its spiking neurons."""

    layers: tuple[LayerGeometry, ...]
    staying: Mapping[str, str] = field(default_factory=dict)
    """Why a spiking neuron does not give way to those of the layers that read it, by module path."""
    poolings: Mapping[str, str] | None = None
    """Kinds of the network's poolings, by the path of the module that pools; None where they are not known."""

    def __getitem__(self, index: Any) -> Any:
        """The layers as a sequence."""
        return self.layers[index]

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self.layers)


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
    network = _plain(network)
    recording = _recorded(network, example_input, time_axis, nonnegative_input)
    layers = _with_exclusions(_measured(network, recording), network, include, exclude)
    layers = _counted_where_stored(layers, _borrowers(network, recording))
    if names is not None:
        name_set = set(names)
        measured_layers = [layer for layer in layers if layer.fixed_reason is None and layer.name in name_set]
        layers = [replace(layer, first=index == 0) for index, layer in enumerate(measured_layers)]
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
    layers = [replace(_in_place(layer, streams), source=sources.get(layer.name)) for layer in layers]
    paths = {module: name for name, module in network.named_modules()}
    poolings = {paths[module]: kind for module, kind in recording.poolings.items()}
    return NetworkGeometry(tuple(layers), streams.staying, poolings)


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


def measure(
    network: nn.Module, example_input: Inputs, *, time_axis: bool = False, nonnegative_input: bool | None = None
) -> list[LayerGeometry]:
    """Measure every module of ``network`` that has weights or multiplies, whether it can be given bits or not.

    The entries are the layers of :data:`bitsearch.frameworks.layers.QUANTIZABLE`; and, with a ``fixed_reason``, other
    modules with parameters of two or more dimensions, modules with products outside of layers (such as attention's
    q·k), and modules with weights that are never called.

    A module under several names, or called several times, is one entry: every call counts, its weights once. Counts are
    for one input, over all calls; calls with the same input count once. With a time axis, ``[T, N, ...]``, of the
    example or of spikingjelly's modules in multi-step mode, and in a loop over frames with spiking neurons inside, they
    are for one input and one time step. Modules inside TorchScript modules are not counted, nor matrix products in
    kernels that FlopCounterMode does not know.

    Arguments and errors as for :func:`trace`, except that a network without layers to quantize is no error. Entries are
    in the order of their first calls, a block after the layers inside it; modules that are never called come last.
    """
    network = _plain(network)
    recording = _recorded(network, example_input, time_axis, nonnegative_input)
    return _counted_where_stored(_measured(network, recording), _borrowers(network, recording))


def _plain(network: nn.Module) -> nn.Module:
    """The network as it is quantized: a copy, where a weight is computed from others or a neuron's own."""
    return network if has_plain_layers(network) else with_plain_layers(network)


def _recorded(network: nn.Module, example_input: Inputs, time_axis: bool, nonnegative_input: bool | None) -> Recording:
    try:
        recording = record(network, example_input, time_axis=time_axis, nonnegative_input=nonnegative_input)
    except Exception as error:  # whatever a network's own code may raise
        shape = shape_text(shape_of(example_input))
        raise InputError(f"the network cannot run an input of shape {shape}: {located(error)}") from error
    shapeless = [name for name, parameter in network.named_parameters() if is_lazy(parameter)]
    if shapeless:
        modules = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in shapeless))
        raise InputError(
            f"never called, so that a lazy module's weights have no shape yet: {modules}; call it in forward(), or "
            "leave it out of the network"
        )
    return recording


def _measured(network: nn.Module, recording: Recording) -> list[LayerGeometry]:
    names = {module: name for name, module in network.named_modules()}
    never_called = [module for module in names if module not in recording.calls]
    layers: list[LayerGeometry] = []
    owners: dict[Tensor, str] = {}
    for module in [*recording.calls, *never_called]:
        calls, weights = recording.calls.get(module, []), _weights(module)
        loop = _loop(module, calls, recording)
        each = calls if loop in (None, "shared") else calls[:1]
        macs = sum(call.macs // call.axes.samples for call in each)
        inputs = [prod(call.shape) // call.axes.samples for call in each] if macs else []
        if not weights and not macs:
            continue
        layers.append(
            LayerGeometry(
                name=names[module],
                macs=macs,
                weights=sum(weight.numel() for weight in weights if weight not in owners),
                inputs=sum(inputs),
                outputs=_channels(module),
                signed_input=any(not call.origin.nonnegative for call in calls),
                follows_input=_follows_input(calls),
                first=bool(weights) and bool(calls) and not owners,
                head=module in recording.heads,
                fixed_reason=_fixed_reason(module, recording, macs),
                factor_bits=None if weights else factor_bits(recording, module),
                frames=len(calls) if loop == "frames" else next((call.axes.frames for call in calls), None),
                is_static_input=bool(calls) and all(call.axes.is_static for call in calls),
                loop=loop,
                calls=max(1, len(calls)),
                call_inputs=max(inputs) if len(inputs) > 1 else None,
                reads=_reads(calls, names),
                silent=bool(calls) and all(call.axes.is_zero for call in calls),
                data_dependent=module in recording.data_dependent,
                pooled=any(call.origin.mixed for call in calls if call.origin.neurons),
                weight_of=next((owners[weight] for weight in weights if weight in owners), None),
                shape=shape_of_layer(module, calls[0].shape) if calls and type(module) in QUANTIZABLE else None,
            )
        )
        for weight in weights:
            owners.setdefault(weight, names[module])
    return layers


def _borrowers(network: nn.Module, recording: Recording) -> dict[str, str]:
    """Of every layer whose weight is multiplied outside of it, as it is, the module that does so."""
    names = {module: name for name, module in network.named_modules()}
    return {
        names[layer]: names[borrower]
        for borrower, weights in recording.borrowed.items()
        for layer in recording.calls
        if recording.products.get(borrower) and type(layer) in QUANTIZABLE and weights.intersection(_weights(layer))
    }


def _counted_where_stored(layers: list[LayerGeometry], borrowers: Mapping[str, str]) -> list[LayerGeometry]:
    """The layers, with a weight counted where it is kept at 32 bits, if one of the modules that have it keeps it."""
    counts = {layer.name: layer.weights for layer in layers}
    fixed_names = {layer.name for layer in layers if layer.fixed_reason is not None}
    for name, borrower in borrowers.items():
        if name not in fixed_names and borrower in fixed_names:
            counts[borrower] += counts[name]
            counts[name] = 0
    for layer in layers:
        if layer.name in fixed_names and layer.weight_of is not None and layer.weight_of not in fixed_names:
            counts[layer.name] += counts[layer.weight_of]
            counts[layer.weight_of] = 0
    return [replace(layer, weights=counts[layer.name]) for layer in layers]


def _follows_input(calls: list[Call]) -> bool:
    always = any(not call.origin.nonnegative and not call.follows_input for call in calls)
    return not always and any(call.follows_input for call in calls)


def _loop(module: nn.Module, calls: list[Call], recording: Recording) -> Loop | None:
    if type(module) not in QUANTIZABLE or len(calls) < 2:
        return None
    if recording.frames is None and all(call.axes.same_as_before and not call.origin.neurons for call in calls[1:]):
        return "same"
    in_loop = len(calls) in recording.loops and all(call.axes.frames is None for call in calls)
    return "frames" if in_loop else "shared"


def _reads(calls: list[Call], names: Mapping[nn.Module, str]) -> str:
    """The neurons, and whatever else, that a layer's input comes from."""
    neurons = list(dict.fromkeys(names[neuron] for call in calls for neuron in _sorted(call.origin.neurons, names)))
    rest = ["other values"] if neurons and any(call.origin.other for call in calls) else []
    return " + ".join(neurons + rest)


def _sorted(neurons: Iterable[nn.Module], names: Mapping[nn.Module, str]) -> list[nn.Module]:
    return sorted(neurons, key=lambda neuron: names[neuron])


def _weights(module: nn.Module) -> list[Tensor]:
    """Weight matrices and kernels of the module itself, without those of its submodules."""
    if type(module) in QUANTIZABLE:
        # With weight norm, the weight is no parameter but is computed from two.
        assert isinstance(module.weight, Tensor)
        return [module.weight]
    return [parameter for parameter in module.parameters(recurse=False) if parameter.dim() >= 2]


def _channels(module: nn.Module) -> int:
    channels = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if isinstance(channels, int):
        return channels
    return sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() == 1)


def _fixed_reason(module: nn.Module, recording: Recording, macs: int) -> str | None:
    layer_type = type(module)
    weights = _weights(module)
    if module not in recording.calls:
        is_used = any(weight in recording.used for weight in weights)
        return "its weights are used without calling it" if is_used else NEVER_CALLED
    if layer_type in QUANTIZABLE:
        return None
    for base_type in QUANTIZABLE:
        if isinstance(module, base_type):
            return f"a subclass of {base_type.__name__} ({layer_type.__module__}.{layer_type.__qualname__})"
    if not weights:
        return "matrix products outside of layers"
    return f"{layer_type.__name__} cannot be given bits" + ("" if macs else "; no matrix products were seen in it")
