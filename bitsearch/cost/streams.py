"""Which spiking neurons give way to the neurons of the layers that read them, and which stay.

A quantized layer brings a neuron of its own. It can stand for one of the network's where nothing but such layers reads
that one's spikes, frame by frame and with nothing else added: then the same currents reach it, and the same layers get
its spikes. Wherever something else reads them, the neuron stays as it is.

Where the spikes are pooled, added up or scaled on the way, the layer's neuron stands in the place of the network's, so
that all that works on spikes still. All layers that read it then have one stream of spikes: their spike bits, time
steps and step sizes are the same. Where these cannot be the same, the neuron stays.
"""

from collections.abc import Set
from math import prod

from torch import nn

from bitsearch.dataflow.recording import Call, Recording
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import NeuronDescription, describe, is_neuron
from bitsearch.plan import NeuronSettings

UNKNOWN_CLASS = "sends zeros and ones; if it is a spiking neuron, declare its class"


class Streams:
    """What every layer of a recording reads, for a choice of the layers that are given bits."""

    def __init__(
        self, network: nn.Module, recording: Recording, given_bits: Set[str], first: str | None = None
    ) -> None:
        self._fixed = first
        self._streams: dict[str, tuple[str, ...]] = {}
        self._names = {module: name for name, module in network.named_modules()}
        self._recording = recording
        self._layers = {
            self._names[module]: calls
            for module, calls in recording.calls.items()
            if type(module) in QUANTIZABLE and self._names[module] in given_bits
        }
        self.staying: dict[str, str] = {self._names[module]: UNKNOWN_CLASS for module in recording.binary}
        """Why a neuron stays, by module path."""
        self._neurons = {module: describe(module) for module in network.modules() if is_neuron(module)}
        # Neurons that one layer reads together give way together.
        count = -1
        while count < len(self.staying):
            count = len(self.staying)
            for neuron in self._neurons:
                reason = self._why_staying(neuron) if self._names[neuron] not in self.staying else None
                if reason is not None:
                    self.staying[self._names[neuron]] = reason

    def in_place(self, layer: str) -> bool:
        """True if the layer's neurons fire where the network's do.

        Something but moves lies between, or the network's takes whole sequences, or reads itself, or is called once a
        frame where the layer reads all of them at once.
        """
        return self.sequence_steps(layer) is not None or (bool(self.neurons(layer)) and self._keeps_place(layer))

    def sequence_steps(self, layer: str) -> int | None:
        """Steps of the sequences that the layer's neuron takes at once; None where it is called once a step."""
        return next((self._steps(neuron) for neuron in self._read_by(layer) if self._gives_way(neuron)), None)

    def reads_steps(self, layer: str) -> bool:
        """True if it reads at once what neurons sent that are called once a frame."""
        (call, *more), read = self._layers.get(layer, [None]), self._read_by(layer)
        if call is None or more or not read:
            return False
        calls = [self._recording.calls[neuron] for neuron in read]
        return all(_times(each) == {None} and len(each) == call.axes.frames for each in calls)

    def _steps(self, neuron: nn.Module) -> int | None:
        steps = self._neurons[neuron].sequence_steps
        return None if steps is None else steps(self._recording.calls[neuron][0].shape)

    def _gives_way(self, neuron: nn.Module) -> bool:
        return self._names[neuron] not in self.staying

    def stream(self, layer: str) -> tuple[str, ...]:
        """The layers that have the layer's spikes in common with it, itself included, in the order they run."""
        if layer in self._streams:
            return self._streams[layer]
        group, count = {layer}, 0
        while count < len(group):
            count = len(group)
            read = {neuron for name in group for neuron in self._read_by(name)}
            group |= {name for name in self._layers if read & self._read_by(name)}
        self._streams[layer] = tuple(name for name in self._layers if name in group)
        return self._streams[layer]

    def sources(self) -> dict[str, str]:
        """Of every layer that reads the very values that one before it has read, call by call, the first such.

        Layers whose neurons fire where the network's do have one stream without it, :meth:`stream`.
        """
        firsts: dict[tuple[object, ...], str] = {}
        sources = {}
        for name, calls in self._layers.items():
            values = tuple(call.values for call in calls)
            if None in values or self.in_place(name):
                continue
            first = firsts.setdefault((values, self.neurons(name)), name)
            if first != name:
                sources[name] = first
        return sources

    def membranes(self, layer: str) -> int:
        """Of the neurons that give way to the layer's, for one input and one time step, where these are.

        A neuron of several layers is counted at the first of them.
        """
        before = self.stream(layer)[: self.stream(layer).index(layer)]
        counts = []
        for neuron in self._read_by(layer).difference(*map(self._read_by, before)):
            calls = self._recording.calls[neuron]
            each = calls[:1] if self._loop(neuron) > 1 or self.reads_steps(layer) else calls
            counts += [prod(call.shape) // call.axes.samples // (self._steps(neuron) or 1) for call in each]
        return sum(counts)

    def neurons(self, layer: str) -> tuple[str, ...]:
        """Module paths of the neurons that give way to the layer's own, in the order in which they are registered."""
        read = self._read_by(layer)
        names = [name for neuron, name in self._names.items() if neuron in read]
        return tuple(name for name in names if name not in self.staying)

    def decay(self, layer: str, frames: int | None) -> float | None:
        """Membrane decay of the layer's own neuron: that of those it stands for; 0 where spikes of others come in."""
        read = self._read_by(layer)
        if self.neurons(layer):
            return next(iter(self._replaced(layer))).decay
        spikes_only = read and not any(call.origin.other for call in self._layers[layer])
        return 0.0 if spikes_only and frames is not None else None

    def settings(self, layer: str) -> NeuronSettings | None:
        """Reset and comparison of the layer's own neuron: those of the neurons that it stands for, if any."""
        return next((neuron.settings for neuron in self._replaced(layer)), None)

    def largest_spike(self, layer: str) -> float | None:
        """The largest spike that the neurons send which the layer reads, whether they stay or not.

        None where they send any, or where something else than spikes comes in.
        """
        other = not self.neurons(layer) and any(call.origin.other for call in self._layers.get(layer, []))
        largest = [] if other else [self._neurons[neuron].settings.largest for neuron in self._read_by(layer)]
        return None if None in largest else max((value for value in largest if value is not None), default=None)

    def _replaced(self, layer: str) -> list[NeuronDescription]:
        """The neurons that the layer's own stands for."""
        return [self._neurons[neuron] for neuron in self._read_by(layer) if self._gives_way(neuron)]

    def _read_by(self, layer: str) -> set[nn.Module]:
        return {neuron for call in self._layers.get(layer, []) for neuron in call.origin.neurons}

    def _keeps_place(self, layer: str) -> bool:
        calls = [call for name in self.stream(layer) for call in self._layers[name]]
        itself = any(self._reads_itself(neuron) for call in calls for neuron in call.origin.neurons)
        return itself or any(call.origin.mixed for call in calls) or any(map(self.reads_steps, self.stream(layer)))

    def _reads_itself(self, neuron: nn.Module) -> bool:
        """True if its spikes come back to it by something else than a layer."""
        return self._neurons[neuron].reads_itself or (neuron, "neuron") in self._recording.readers.get(neuron, [])

    def _why_no_stream(self, layer: str) -> str | None:
        """Why the layers that read the layer's neurons where they are cannot have the same numbers."""
        for name in self.stream(layer):
            if any(call.origin.other for call in self._layers[name]):
                return f"{name} reads other values elsewhere"
        if self._fixed in self.stream(layer) and len(self.stream(layer)) > 1:
            return f"{self._fixed} reads its spikes too, with bits of its own as the first layer"
        return None

    def _why_staying(self, neuron: nn.Module) -> str | None:
        readers = self._recording.readers.get(neuron, [])
        irreplaceable = self._neurons[neuron].irreplaceable
        if irreplaceable is not None:
            return irreplaceable
        if neuron in self._recording.hooked:
            return "a hook may change what it sends"
        if neuron in self._recording.interrupted:
            return self._recording.interrupted[neuron]
        if not readers:
            return "nothing reads its spikes"
        for module, operation in readers:
            name = "" if module is None else self._names[module]
            if operation == "output":
                return "the network returns its spikes"
            if operation == "membrane":
                return "its membrane is read"
            if module is neuron:
                continue
            if operation == "neuron":
                return f"{name} reads its spikes"
            if operation != "layer":
                return f"{operation} in {name or 'the network'} reads its spikes"
            if name not in self._layers:
                return f"{name} reads its spikes and keeps 32 bits"
            reason = self._why_apart(neuron, name) or self._why_whole(neuron, name)
            if reason is not None:
                return reason
        return None

    def _why_whole(self, neuron: nn.Module, layer: str) -> str | None:
        """Why the layer's neuron cannot take whole sequences as this one does."""
        steps, (call, *more), readings = self._steps(neuron), self._recording.calls[neuron], self._layers[layer]
        if steps is None:
            return None
        if more:
            return "it takes several sequences in turn"
        if len(self._read_by(layer)) > 1 or len(readings) > 1:
            return f"{layer} reads more than the sequences of one neuron"
        folded = readings[0].shape[:1] == (call.axes.samples * steps,)
        apart = len(readings[0].shape) == len(call.shape) and readings[0].shape[:2] == call.shape[:2]
        if not (folded or apart) or any(one.axes.frames is not None for one in (call, readings[0])):
            return f"{layer} reads its spikes over time at once"
        if self._fixed != layer and neuron in self._read_by(self._fixed or ""):
            return f"{self._fixed} reads its spikes too, with bits of its own as the first layer"
        return None

    def _why_apart(self, neuron: nn.Module, layer: str) -> str | None:
        """Why the layer's neuron cannot stand for this one."""
        calls = [call for call in self._layers[layer] if neuron in call.origin.neurons]
        together = self._read_by(layer)
        if any(call.origin.other for call in calls):
            return f"{layer} reads its spikes together with other values"
        if not all(call.origin.nonnegative for call in calls):
            return f"{layer} reads a difference of its spikes"
        if not all(call.origin.nonnegative for call in self._layers[layer]):
            return f"{layer} reads values below zero elsewhere"
        rounds, calls_of_layer = self._loop(neuron), len(self._layers[layer])
        if rounds > 1 and calls_of_layer > rounds and calls_of_layer % rounds == 0:
            times = calls_of_layer // rounds
            return f"a loop calls {layer} {times} times a frame; give each call a layer of its own, of one weight"
        apart = _times(calls) != _times(self._recording.calls[neuron]) or self._loop(neuron) != self._loop_of(layer)
        if apart and not self.reads_steps(layer):
            return f"{layer} reads its spikes over time at once"
        staying = next((self._names[other] for other in together if self._names[other] in self.staying), None)
        if staying is not None:
            return f"{layer} reads its spikes together with those of {staying}"
        descriptions = [self._neurons[other] for other in together]
        if len({other.decay for other in descriptions}) > 1:
            return f"{layer} reads spikes of neurons with different decays"
        if len({other.settings for other in descriptions}) > 1:
            return f"{layer} reads spikes of neurons with different resets or thresholds"
        if len(together) > 1 and any(other.learns_decay for other in descriptions):
            return f"{layer} reads spikes of several neurons that learn their decays"
        return self._why_no_stream(layer) if self._keeps_place(layer) else None

    def _loop(self, neuron: nn.Module) -> int:
        count = len(self._recording.calls[neuron])
        return count if count in self._recording.loops else 1

    def _loop_of(self, layer: str) -> int:
        count = len(self._layers[layer])
        return count if count in self._recording.loops else 1


def _times(calls: list[Call]) -> set[int | None]:
    return {call.axes.frames for call in calls}
