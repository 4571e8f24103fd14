"""A neuron in its own place: what lies between it and the layer that reads it works on its spikes.

Its numbers, spike bits, time steps and step sizes, are those of the layer that reads it, and so are its gradients; its
membrane is its own, so that several neurons whose spikes are added up or concatenated each keep one. Layers that read
the same neurons have these numbers in common.
"""

from collections.abc import Sequence

from torch import Tensor

from bitsearch.errors import InputError
from bitsearch.layers.calls import Calls
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.quant.frames import hold_frames


class PlacedNeuron(InputCurrent):
    """The refined neuron of a layer behind it, on ``gain``·x.

    Without a time axis it passes on its mean spikes; with one, ``[F, N, ...]`` or folded ``[F·N, ...]``, the spikes of
    every time step, held over that step's frames.

    Args:
        gain: as for the base class.
        owner: the layer whose numbers it has; it is no submodule, so that its parameters keep their one name.
        readers: the layers that read it; by default this one.
    """

    def __init__(self, gain: Tensor | float, owner: QuantizedLayer, readers: Sequence[QuantizedLayer] = ()) -> None:
        super().__init__(gain, rectified=False)
        # No attributes of their own, which torch would register.
        self._layers = (owner, *(readers or (owner,)))
        self.begin_pass()

    @property
    def owner(self) -> QuantizedLayer:
        """The layer whose numbers it has."""
        return self._layers[0]

    @property
    def readers(self) -> tuple[QuantizedLayer, ...]:
        """The layers that read it."""
        return self._layers[1:]

    def begin_pass(self) -> None:
        """Forget what it keeps between its calls in one forward pass."""
        self.calls = Calls()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes, shaped like ``x``."""
        current, layer = self.current(x), self.owner
        if layer.loop == "frames":
            spikes = layer.next_spikes(current, self.calls)
            self._show(current, spikes)
            return spikes
        sequence = self.sequence(current)
        spikes = layer.fire(sequence)
        self._show(sequence, spikes)
        if layer.frames is None:
            return spikes
        held = hold_frames(spikes, layer.frames)
        return held if sequence is current else held.flatten(0, 1)

    def _show(self, currents: Tensor, spikes: Tensor) -> None:
        for reader in self.readers:
            if reader.observer is not None:
                reader.observe(currents, spikes, reader.pass_weight())

    def sequence(self, current: Tensor) -> Tensor:
        """``[F, N, ...]``, of currents that may be folded; without a time axis, as they are."""
        frames = self.owner.frames
        if frames is None or current.shape[0] == frames:
            return current
        if current.shape[0] % frames:
            raise InputError(
                f"the plan is for inputs of {frames} frames; an input of shape {tuple(current.shape)} has others"
            )
        result: Tensor = current.unflatten(0, (frames, -1))
        return result
