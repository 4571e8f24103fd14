"""Measuring the layers of a network, by one recorded forward pass: every module that has weights or multiplies."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bitsearch.cost.geometry import NEVER_CALLED, LayerGeometry
from bitsearch.cost.layer_shape import shape_of_layer
from bitsearch.cost.spike_products import factor_bits
from bitsearch.dataflow.recording import Call, Recording, record
from bitsearch.errors import InputError, located
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.plain_layers import has_plain_layers, with_plain_layers
from bitsearch.network_inputs import Inputs, shape_of, shape_text
from bitsearch.plan import Loop


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
    network, recording = record_plain(network, example_input, time_axis, nonnegative_input)
    return counted_where_stored(measured_layers(network, recording), network, recording)


def record_plain(
    network: nn.Module, example_input: Inputs, time_axis: bool, nonnegative_input: bool | None
) -> tuple[nn.Module, Recording]:
    """(the network as it is quantized, a copy where a weight is computed from others or a neuron's own; its recording).

    Arguments as for :func:`measure`.

    Raises:
        InputError: the network cannot run the example, or a lazy module never got one.
    """
    network = network if has_plain_layers(network) else with_plain_layers(network)
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
    return network, recording


def measured_layers(network: nn.Module, recording: Recording) -> list[LayerGeometry]:
    """Every module with weights or products, a weight counted at the first that has it; order as of :func:`measure`."""
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


def counted_where_stored(layers: list[LayerGeometry], network: nn.Module, recording: Recording) -> list[LayerGeometry]:
    """The layers, with a weight counted where it is kept at 32 bits, if one of the modules that have it keeps it."""
    counts = {layer.name: layer.weights for layer in layers}
    fixed_names = {layer.name for layer in layers if layer.fixed_reason is not None}
    for name, borrower in _borrowers(network, recording).items():
        if name not in fixed_names and borrower in fixed_names:
            counts[borrower] += counts[name]
            counts[name] = 0
    for layer in layers:
        if layer.name in fixed_names and layer.weight_of is not None and layer.weight_of not in fixed_names:
            counts[layer.name] += counts[layer.weight_of]
            counts[layer.weight_of] = 0
    return [replace(layer, weights=counts[layer.name]) for layer in layers]


def _borrowers(network: nn.Module, recording: Recording) -> dict[str, str]:
    """Of every layer whose weight is multiplied outside of it, as it is, the module that does so."""
    names = {module: name for name, module in network.named_modules()}
    return {
        names[layer]: names[borrower]
        for borrower, weights in recording.borrowed.items()
        for layer in recording.calls
        if recording.products.get(borrower) and type(layer) in QUANTIZABLE and weights.intersection(_weights(layer))
    }


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
