"""One forward pass, call by call: multiply-accumulates, where the inputs come from, and the axes that they have.

Which axis is time, batch or token is not guessed from sizes: the network is run again with one sample less, with one
frame less, and with one sample changed, and every call's input is compared (:mod:`bitsearch.dataflow.axes`).
"""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from bitsearch.dataflow.axes import Axes, Input, RunFailedError, find_axes
from bitsearch.dataflow.binary_outputs import BinaryWatch
from bitsearch.dataflow.dropouts import DropoutWatch
from bitsearch.dataflow.membranes import MembraneWatch, state_arguments
from bitsearch.dataflow.origins import OriginTracker, Product, Reader
from bitsearch.dataflow.poolings import PoolingWatch
from bitsearch.dataflow.products import first_tensor, flop_counter, layer_macs, products_in_sight
from bitsearch.dataflow.rules import UNKNOWN, Origin
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import is_multi_step, is_neuron, is_spiking, reset_states, states
from bitsearch.network_inputs import Inputs, axis_length, call_network, narrowed, shape_of, tensors_of

SAMPLES = 3
"""Most samples of an example that are run."""


@dataclass(frozen=True)
class Call:
    """One call of one module, for the whole batch and without what the modules it called did."""

    shape: tuple[int, ...]
    """Shape of the first tensor among its arguments; empty if there is none."""
    macs: int
    origin: Origin
    """Of that tensor, where the module is a layer or a neuron."""
    axes: Axes
    """Its time axis, and how many inputs it holds."""
    follows_input: bool = False
    """True if the tensor may be below zero where the network's input is, and only there."""
    values: tuple[int, int, int] | None = None
    """By what the tensor's values are known again: calls with the same have read the same values, in any shape."""


@dataclass
class Recording:
    """What :func:`record` saw."""

    calls: dict[nn.Module, list[Call]] = field(default_factory=dict)
    """In the order in which the modules first finished: a layer before the block it belongs to."""
    readers: dict[nn.Module, list[Reader]] = field(default_factory=dict)
    """Of every neuron, who read its spikes; what the network returns is read by ``(None, "output")``."""
    used: set[nn.Parameter] = field(default_factory=set)
    """Parameters that some operation took, inside their own module or outside."""
    products: dict[nn.Module, list[Product]] = field(default_factory=dict)
    """Of every module, the matrix products that no layer makes."""
    borrowed: dict[nn.Module, set[nn.Parameter]] = field(default_factory=dict)
    """Of every module, parameters of others that its own operations took."""
    frames: int | None = None
    """Length of the example's time axis, if it has one."""
    hooked: set[nn.Module] = field(default_factory=set)
    """Neurons with hooks of the user's, which may change what they send."""
    interrupted: dict[nn.Module, str] = field(default_factory=dict)
    """What becomes of a neuron's membrane between its calls, where it does not stay as it is."""
    binary: list[nn.Module] = field(default_factory=list)
    """Modules of unknown classes that sent nothing but zeros and ones."""
    poolings: dict[nn.Module, str] = field(default_factory=dict)
    """Kinds of pooling, by the module that pools."""
    heads: set[nn.Module] = field(default_factory=set)
    """Layers whose results the network returns, or neurons behind them."""
    data_dependent: set[nn.Module] = field(default_factory=set)
    """Modules that ran more or less often for other samples, or on more or less."""
    mixes_samples: bool = False
    """True if a sample's result changes with the rest of its batch."""

    @property
    def loops(self) -> set[int]:
        """How often the body of a loop over frames runs, in which neurons keep their membrane from call to call."""
        counts = [{len(calls) for module, calls in self.calls.items() if kind(module)} for kind in (_steps, _is_layer)]
        if self.frames is not None and max(counts[0], default=0) >= self.frames:
            counts[0].add(self.frames)
        return (counts[0] & counts[1]) - {1}


def record(
    network: nn.Module, example_input: Inputs, *, time_axis: bool = False, nonnegative_input: bool | None = None
) -> Recording:
    """Run ``example_input`` through ``network``, in evaluation mode and without gradients.

    States of spiking neurons are reset before and after every run; the network's mode, weights and buffers are left as
    they were.

    Args:
        network: any module.
        example_input: ``[N, ...]``, or with ``time_axis`` ``[T, N, ...]``.
        time_axis: True if the example has one.
        nonnegative_input: True if no input is ever below zero; by default, if the example is nowhere.
    """
    if nonnegative_input is None:
        nonnegative_input = all(bool((x >= 0).all()) for x in tensors_of(example_input))
    few = example_input
    if time_axis or not any(is_multi_step(module) for module in network.modules()):
        # Which axes there are shows on a few samples.
        axis, count = int(time_axis), min(SAMPLES, axis_length(example_input, int(time_axis)))
        few = narrowed(example_input, axis, 0, count)
    try:
        return _run(network, few, time_axis, nonnegative_input)
    except Exception:
        if shape_of(few) == shape_of(example_input):
            raise
        # A network may insist on the size of its batch.
        return _run(network, example_input, time_axis, nonnegative_input)
    finally:
        reset_states(network)


def _run(network: nn.Module, example_input: Inputs, time_axis: bool, nonnegative_input: bool) -> Recording:
    # The same numbers for an encoder that draws some, in every run.
    with torch.no_grad(), eval_mode(network), products_in_sight(), torch.random.fork_rng(devices=[]):
        axes, data_dependent = find_axes(lambda x: _inputs(network, x), example_input, time_axis=time_axis)
        torch.manual_seed(0)
        recording = _record(network, example_input, axes, Origin(other=True, nonnegative=nonnegative_input))
    recording.frames = axis_length(example_input, 0) if time_axis else None
    recording.data_dependent = data_dependent
    return recording


def _inputs(network: nn.Module, example_input: Inputs) -> list[Input]:
    """Every call's input in the order of the calls, and what the network returns at the end."""
    inputs: list[Input] = []
    running: list[str] = []
    names = {module: name for name, module in network.named_modules()}

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.append(names[module])
        inputs.append(Input.of(module, first_tensor((args, kwargs)), multi_step=is_multi_step(module)))

    def after(*_: Any) -> None:
        running.pop()

    torch.manual_seed(0)
    reset_states(network)
    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        try:
            result = first_tensor(call_network(network, example_input))
        except Exception as error:  # whatever a network's own code may raise
            raise RunFailedError(running[-1] if running else "", error) from error
    return [*inputs, Input.of(None, result, multi_step=False)]


@dataclass
class _Running:
    """A call that has not returned yet."""

    module: nn.Module
    index: int
    flops_before: int
    origin: Origin
    follows_input: bool
    values: tuple[int, int, int] | None
    inside: int = 0
    """Multiply-accumulates that the calls inside it account for."""


def _record(network: nn.Module, example_input: Inputs, axes: list[Axes], origin: Origin) -> Recording:
    tracker, counter, membranes = OriginTracker(), flop_counter(), MembraneWatch()
    outputs, dropouts = BinaryWatch(network), DropoutWatch(tracker)
    # What would be known of an input with the other sign.
    opposite = OriginTracker()
    hooked = {module for module in network.modules() if module._forward_hooks and is_neuron(module)}
    recording = Recording(
        readers=tracker.readers,
        used=tracker.parameters,
        products=tracker.products,
        borrowed=tracker.borrowed,
        hooked=hooked,
        interrupted=membranes.interrupted,
        mixes_samples=axes[-1].mixes_samples,
    )
    running: list[_Running] = []
    poolings = PoolingWatch(lambda: running[-1].module if running else network)
    # What layers have read, so that no other tensor takes its address before the end.
    storages: list[torch.UntypedStorage] = []
    begun = 0

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal begun
        x, atomic = first_tensor((args, kwargs)), _is_atomic(module)
        if atomic:
            tracker.read(module, "layer" if _is_layer(module) else "neuron", x)
        if is_neuron(module):
            tracker.read_states(module, state_arguments(args, kwargs))
        with _disable_current_modes():
            if is_neuron(module):
                membranes.before(module, args, kwargs)
            # A neuron with a layer inside, which reads its spikes, begins with none.
            unsent = bool(running) and is_neuron(running[-1].module) and x is not None and not x.any()
        source, other = (Origin() if x is None or unsent else each.of(x) for each in (tracker, opposite))
        follows = source.nonnegative != other.nonnegative
        values = None if x is None or not _is_layer(module) else _values(x, storages)
        running.append(_Running(module, begun, counter.get_total_flops(), source, follows, values))
        begun += 1
        for each in (tracker, opposite):
            each.enter(module, opaque=atomic)

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        for each in (tracker, opposite):
            each.leave(opaque=_is_atomic(module))
        call = running.pop()
        # The flop counter counts a multiply-accumulate as two operations.
        counted = (counter.get_total_flops() - call.flops_before) // 2 - call.inside
        x, formula = first_tensor((args, kwargs)), layer_macs(module, (args, kwargs), output)
        # A hook's products do not belong to a layer that can be given bits: they go to the module around it.
        macs = formula if _is_layer(module) else max(formula, counted)
        if running:
            running[-1].inside += call.inside + min(counted, macs)
        for each in (tracker, opposite) if _is_atomic(module) else ():
            each.mark(output, replace(UNKNOWN, layers=frozenset([module])))
            if is_neuron(module):
                each.mark([output, states(module)], replace(UNKNOWN, membranes=frozenset([module])))
                sent = UNKNOWN if module in hooked else Origin(frozenset([module]))
                each.mark(first_tensor(output), replace(sent, layers=call.origin.layers))
        with _disable_current_modes():
            outputs.after(module, x, output)
            dropouts.after(module, output)
            if is_neuron(module):
                membranes.after(module, output)
        shape = () if x is None else tuple(x.shape)
        recorded = Call(shape, macs, call.origin, axes[call.index], call.follows_input, call.values)
        recording.calls.setdefault(module, []).append(recorded)

    reset_states(network)
    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        tracker.mark(example_input, origin)
        opposite.mark(example_input, replace(origin, nonnegative=not origin.nonnegative))
        with counter, opposite, tracker, dropouts, poolings:
            output = call_network(network, example_input)
            tracker.read(None, "output", output)
    recording.heads = tracker.layers_of(output)
    recording.binary, recording.poolings = outputs.modules(), poolings.kinds
    return recording


def _values(x: torch.Tensor, storages: list[torch.UntypedStorage]) -> tuple[int, int, int]:
    """Storage, version and count of a whole tensor's values: views of it have the same, what is written later not."""
    storages.append(x.untyped_storage())
    return storages[-1]._cdata, x._version, x.numel()


def _is_layer(module: nn.Module) -> bool:
    return type(module) in QUANTIZABLE


def _steps(module: nn.Module) -> bool:
    return is_spiking(module) and not is_multi_step(module)


def _is_atomic(module: nn.Module) -> bool:
    return _is_layer(module) or is_neuron(module)
