"""Does a packed file compute what its network does? Spike by spike, layer by layer, step by step."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.deploy.lower.float64_reference import Float64Reference
from bitsearch.deploy.lower.loop import loop_rounds
from bitsearch.deploy.lower.lowering import lower
from bitsearch.deploy.lower.output_neurons import OUTPUT_NEURONS
from bitsearch.deploy.pack import MinMaxObserver
from bitsearch.errors import InputError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.neurons import is_multi_step
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.weights import bare, weights_checksum
from bitsearch.network_inputs import Inputs, single_input
from bitsearch.quant.frames import bin_frames
from bitsearch.quant.recurrence import membrane_steps
from bitsearch.train.predict import over_steps, predict
from bitsearch.train.tasks import CLASSIFICATION, LearningTask

Spikes = dict[tuple[str, int], Tensor]
"""Integer codes by (run of a layer, time step)."""


@dataclass
class Comparison:
    """One run of a layer, of its neuron or of its weights, over all samples."""

    name: str
    spikes: list[int] = field(default_factory=list)
    """Spikes by time step; none of weights alone."""
    unequal: list[int] = field(default_factory=list)
    """Those of the file that are not the network's, by time step."""
    unequal_to_float: list[int] = field(default_factory=list)
    """Those that are not the float32 network's, by time step."""
    accumulator_bits: int = 0
    """Observed."""
    membrane_bits: int = 0
    """Observed."""

    @property
    def equal(self) -> bool:
        """True if every spike of every step is the network's."""
        return not any(self.unequal)

    def add(self, t: int, spikes: int, unequal: int, unequal_to_float: int) -> None:
        """Count a batch's spikes of one time step."""
        for counts, count in (
            (self.spikes, spikes),
            (self.unequal, unequal),
            (self.unequal_to_float, unequal_to_float),
        ):
            counts += [0] * (t + 1 - len(counts))
            counts[t] += count


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found."""

    layers: tuple[Comparison, ...]
    """In the order they run."""
    samples: int
    outputs_equal: bool
    """The logits of file and network are the same numbers."""
    score: float
    """Of the file, as the task measures it: by default its accuracy."""
    float_score: float
    """Of the ordinary float32 network, likewise."""

    @property
    def equal(self) -> bool:
        """True if all spikes and all outputs are."""
        return self.outputs_equal and all(layer.equal for layer in self.layers)


@torch.no_grad()
def verify(
    packed: PackedNetwork,
    network: nn.Module,
    example_input: Inputs,
    samples: Samples,
    batch_size: int = 64,
    task: LearningTask = CLASSIFICATION,
) -> Verification:
    """Replay a packed file beside its network in the deployed arithmetic, and beside the network in float32.

    Args:
        packed: from :func:`bitsearch.read`.
        network: the quantized network that the file is to be of, with its weights.
        example_input: a batch ``[N, ...]``, N > 1, to trace it with.
        samples: inputs and labels.
        batch_size: of them at a time.
        task: whose score is measured.

    Raises:
        InputError: the file is of another network: its layers have other names, bits or time steps, or other weights.

    >>> network, task = bitsearch.rebuild(Path("run/plan.json"))
    >>> size = bitsearch.pack(network, task.examples, "network.packed")
    >>> bitsearch.verify(bitsearch.read("network.packed"), network, task.examples, task.splits.validation).equal
    True
    """
    network = bare(network)
    lowered = lower(network, single_input(example_input, "a packed file"))
    _check_same_network(packed, lowered.program.layers)
    weights = weights_checksum(network)
    if packed.source.weights not in (None, weights):
        raise InputError(
            f"the file was packed from other weights, with SHA-256 {packed.source.weights[:12]}…, not {weights[:12]}…; "
            "give those of its trial with --weights"
        )
    replay, reference = packed.replay(), Float64Reference(lowered)
    fraction = replay.analysis.values[-1].fraction
    maxima = MinMaxObserver()
    compared = zip(packed.program.operations, packed.analysis.operations, strict=True)
    comparisons = {run.name: Comparison(run.name) for run, ranges in compared if ranges.widths is not None}
    outputs_equal = True
    outputs_of_file: list[Tensor] = []
    outputs_in_float: list[Tensor] = []
    targets: list[Tensor] = []
    for batch, labels in batches(samples, batch_size):
        inputs = single_input(batch, "a packed file")
        file_spikes: Spikes = {}
        network_spikes: Spikes = {}

        def observe_file(name: str, quantity: str, t: int, integers: Tensor, spikes: Spikes = file_spikes) -> None:
            if quantity == "spikes":
                spikes[name, t] = integers
            maxima(name, quantity, t, integers)

        def observe_network(name: str, quantity: str, t: int, codes: Tensor, spikes: Spikes = network_spikes) -> None:
            spikes[name, t] = codes

        outputs = replay(inputs, observe_file)
        exact = reference(inputs, observe_network)
        with _float_spikes(network) as in_float, eval_mode(network):
            float_outputs = over_steps(predict(network, inputs, task.form), task.form)
        float_runs = chain.from_iterable(in_float)
        for (name, t), codes in file_spikes.items():
            spikes_expected = network_spikes.get((name, t))
            float_codes = next(float_runs)
            # What comes before a static input is repeated runs once.
            float_codes = float_codes.repeat(codes.numel() // float_codes.numel(), *[1] * (codes.dim() - 1))
            float_codes = float_codes.reshape(codes.shape)
            if spikes_expected is None or spikes_expected.shape != codes.shape:
                unequal = codes.numel()
            else:
                unequal = int((spikes_expected != codes).sum())
            comparisons[name].add(t, codes.numel(), unequal, int((float_codes != codes).sum()))
        values = torch.ldexp(outputs.double(), torch.tensor(-fraction))
        outputs_equal = outputs_equal and torch.equal(values, exact)
        outputs_of_file.append(values)
        outputs_in_float.append(float_outputs)
        targets.append(labels)
    for name, comparison in comparisons.items():
        comparison.accumulator_bits = maxima.bits(name, "accumulator")
        comparison.membrane_bits = maxima.bits(name, "membrane")
    expected = torch.cat(targets)
    scores = [task.scoring.of_all(torch.cat(rows), expected) for rows in (outputs_of_file, outputs_in_float)]
    return Verification(tuple(comparisons.values()), len(expected), outputs_equal, *scores)


def _check_same_network(packed: PackedNetwork, lowered: Mapping[str, PackedLayer]) -> None:
    layers = packed.program.layers
    different = sorted(set(layers) ^ set(lowered))
    if different:
        raise InputError(f"the file is of another network: only one of the two has layer {different[0]!r}")
    for name, layer in layers.items():
        for part in (
            *("weight_shape", "weight_bits", "spike_bits", "signed", "frames", "output_padding"),
            *("reset", "threshold", "strict", "weight_of", "step_sizes", "membrane_bits"),
        ):
            if getattr(layer, part) != getattr(lowered[name], part):
                raise InputError(
                    f"the file is of another network or plan: layer {name!r} has {part} {getattr(layer, part)}, "
                    f"the network's {getattr(lowered[name], part)}"
                )


@contextmanager
def _float_spikes(network: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Codes of the float32 network, run by run in the order they begin, and step by step."""
    spikes: list[list[Tensor]] = []
    # In a loop over frames, a run of a layer takes as many calls.
    of_loop: dict[nn.Module, list[Tensor]] = {}

    def step_of(module: nn.Module, codes: Tensor) -> None:
        if module not in of_loop:
            of_loop[module] = []
            spikes.append(of_loop[module])
        of_loop[module].append(codes.long())

    def record_call(module: nn.Module, *_: Any) -> None:
        assert isinstance(module, QuantizedLayer | PlacedNeuron)
        layer = module.owner if isinstance(module, PlacedNeuron) else module
        t, membrane = module.calls.step, module.calls.membrane
        assert membrane is not None
        one = slice(t, t + 1)
        recurrence = membrane_steps(
            membrane,
            layer.spike_step[one],
            layer.spike_bits[one],
            time_steps=1,
            decay=layer.decay,
            signed=layer.signed_input,
            neuron=layer.neuron,
            width=layer.membrane_width,
        )
        step_of(module, next(recurrence)[0].codes)

    def record(layer: QuantizedLayer, sequence: Tensor) -> None:
        framed = layer.frames is not None
        recurrence = membrane_steps(
            bin_frames(sequence, layer.active_steps) if framed else sequence,
            layer.spike_step,
            layer.spike_bits,
            time_steps=layer.active_steps,
            decay=layer.decay,
            signed=layer.signed_input,
            framed=framed,
            neuron=layer.neuron,
            width=layer.membrane_width,
        )
        spikes.append([levels.codes.long() for levels, _ in recurrence])

    def record_layer(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, QuantizedLayer)
        if layer.loop == "same" and layer.calls.result is not None:
            # It is computed once.
            return
        # Folded frames, [F·N, ...], are in the same order.
        record(layer, inputs[0] if layer.frames is None else inputs[0].reshape(layer.frames, -1))

    def record_placed(neuron: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(neuron, PlacedNeuron)
        record(neuron.owner, neuron.sequence(neuron.current(inputs[0])))

    def record_neuron(neuron: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        if looped:
            step_of(neuron, result)
        else:
            spikes.append([*result.long()] if is_multi_step(neuron) else [result.long()])

    looped = loop_rounds(network) is not None
    with ExitStack() as hooks:
        for module in network.modules():
            if type(module) in OUTPUT_NEURONS:
                hooks.callback(module.register_forward_hook(record_neuron).remove)
            elif looped and _is_called_by_frame(module):
                hooks.callback(module.register_forward_hook(record_call).remove)
            elif isinstance(module, PlacedNeuron):
                hooks.callback(module.register_forward_pre_hook(record_placed).remove)
            elif isinstance(module, QuantizedLayer) and not module.in_place:
                hooks.callback(module.register_forward_pre_hook(record_layer).remove)
        yield spikes


def _is_called_by_frame(module: nn.Module) -> bool:
    """True for what fires in a loop over frames."""
    if isinstance(module, PlacedNeuron):
        return module.owner.loop == "frames"
    return isinstance(module, QuantizedLayer) and module.loop == "frames" and not module.in_place
