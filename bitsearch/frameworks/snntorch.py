r"""snnTorch's neurons, as their sources say and as running them shows.

``Leaky`` and ``RLeaky`` compute, with spikes :math:`z_t = [u_t > \theta]`,

.. math::
    u_{t+1} = \beta u_t + x_{t+1} - \theta z_t \quad\text{or}\quad u_{t+1} = \beta (1 - z_t) u_t + x_{t+1}

for the reset by subtraction, which comes a step late and so does not decay, and for the one to zero. ``Lapicque`` does
the same with :math:`\beta = 1 - \Delta t / RC` and an input times :math:`\Delta t / C`.
"""

from collections.abc import Callable
from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from bitsearch.frameworks.neurons import Memory, NeuronDescription, NeuronInterface, placeholder
from bitsearch.plan import NeuronSettings

_TWO_STATES = (snntorch.Synaptic, snntorch.RSynaptic, snntorch.Alpha)


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of the library and its subclasses."""
    return isinstance(module, snntorch.SpikingNeuron)


def is_multi_step(module: nn.Module) -> bool:
    """False: those that take sequences have no reset, and are not described."""
    return False


def describe(module: nn.Module) -> NeuronDescription:
    """Of one of :data:`NEURONS`; of those with two states, that they stay."""
    neuron: Any = module
    if isinstance(neuron, _TWO_STATES):
        return NeuronDescription(irreplaceable="its synaptic current is a second state, which no refined neuron has")
    with torch.no_grad():
        decays, charge = _decay_and_charge(neuron)
        at_threshold = neuron.spike_grad(torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0])).tolist()
        irreplaceable = _why_irreplaceable(neuron, decays, at_threshold)
        if irreplaceable is not None:
            return NeuronDescription(irreplaceable=irreplaceable)
        reset = neuron.reset_mechanism
        learns_decay = isinstance(neuron.beta, nn.Parameter)
        # Without a leak, late and at once are the same.
        delayed = reset == "subtract" and getattr(neuron, "reset_delay", True) and (learns_decay or decays.max() < 1)
        return NeuronDescription(
            decay=float(decays.max()),
            charge=charge,
            threshold=neuron.threshold,
            settings=NeuronSettings(
                reset="delayed" if delayed else reset, threshold="full", strict=at_threshold[2] == 0, largest=1.0
            ),
            learns_decay=learns_decay,
            interface=_INTERFACES[type(neuron)],
            reads_itself=not getattr(neuron, "all_to_all", True),
        )


def _decay_and_charge(neuron: Any) -> tuple[Tensor, float]:
    """(decay, one or one a neuron; factor on the input)."""
    if not isinstance(neuron, snntorch.Lapicque):
        return neuron.beta.clamp(0, 1), 1.0
    decay = 1 - neuron.time_step / (neuron.R * neuron.C)
    return decay, float((neuron.time_step / neuron.C).max())


def _why_irreplaceable(neuron: Any, decays: Tensor, at_threshold: list[float]) -> str | None:
    if neuron.reset_mechanism == "none":
        return "its spikes do not reset it"
    if neuron.reset_mechanism == "zero" and _drops_input(neuron):
        return "its reset to zero comes a step late, and takes that step's input too"
    if neuron.reset_mechanism == "zero" and isinstance(neuron, snntorch.RLeaky):
        return "its reset to zero runs its recurrent layer twice a step"
    if neuron.inhibition:
        return "its neurons inhibit each other"
    if neuron.state_quant:
        return "its membrane is quantized"
    if isinstance(neuron.graded_spikes_factor, nn.Parameter) or not (neuron.graded_spikes_factor == 1).all():
        return "its spikes are graded"
    if decays.max() != decays.min():
        return "its neurons have different decays"
    if not 0 <= decays.max() <= 1:
        return f"its membrane is multiplied by {float(decays.max()):g} a step; allowed: 0 to 1"
    if decays.max() == 0 and neuron.reset_mechanism == "subtract" and getattr(neuron, "reset_delay", True):
        return "its late reset is all that its membrane holds"
    if not (neuron.threshold > 0).all():
        return "its threshold is not above zero, to which it is reset"
    if at_threshold not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        return "its spike_grad sends something else than spikes"
    return None


def _drops_input(neuron: Any) -> bool:
    """True where the reset to zero comes a step late and takes what has come in meanwhile."""
    return isinstance(neuron, snntorch.Lapicque) or (isinstance(neuron, snntorch.RLeaky) and neuron.reset_delay)


def states(module: nn.Module) -> list[Tensor]:
    """Membrane and synaptic currents of one of the library's neurons."""
    names = ("mem", "syn", "syn_exc", "syn_inh") if is_spiking(module) else ()
    return [state for name in names if isinstance(state := getattr(module, name, None), Tensor)]


def reset(module: nn.Module) -> None:
    """Zero states, those of earlier batches' sizes too."""
    clear: Callable[[], object] | None = getattr(module, "reset_mem", None) if is_spiking(module) else None
    if clear is not None:
        clear()


class LeakyInterface(NeuronInterface):
    """Takes and returns what ``Leaky`` and ``Lapicque`` do; the states mean nothing."""

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(current)
        self.returns_states = neuron.output or not neuron.init_hidden

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        """The current, and a membrane if the neuron returns it."""
        current = self.current(input_)
        return (current, placeholder(current)) if self.returns_states else current

    def reset_mem(self) -> Any:
        """What the first call takes for a state."""
        return torch.zeros(0)

    init_leaky = init_lapicque = reset_mem


class RLeakyInterface(LeakyInterface):
    """Takes and returns what ``RLeaky`` does: a layer of its own reads what the neuron sent in its call before.

    Without a layer, where it reads itself one to one, that is multiplied by numbers that keep 32 bits.
    """

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(neuron, current)
        self.recurrent = neuron.recurrent
        self.begin_pass()

    def begin_pass(self) -> None:
        """Nothing was sent yet."""
        self.memory = Memory()

    def forward(  # type: ignore[override]  # with the arguments of the neuron that it stands for
        self, input_: Tensor, spk: Tensor | None = None, mem: Tensor | None = None
    ) -> Any:
        """The current, and a membrane if the neuron returns it."""
        sent = self.memory.sent if spk is None else spk
        if sent is None or sent.shape != input_.shape:
            sent = torch.zeros_like(input_)
        current = self.memory.sent = self.current(input_ + self.recurrent(sent))
        return (current, placeholder(current)) if self.returns_states else current

    def reset_mem(self) -> Any:
        """What the first call takes for states."""
        return torch.zeros(0), torch.zeros(0)

    init_rleaky = reset_mem


_INTERFACES: dict[type[nn.Module], type[NeuronInterface]] = {
    snntorch.Leaky: LeakyInterface,
    snntorch.Lapicque: LeakyInterface,
    snntorch.RLeaky: RLeakyInterface,
}

NEURONS: tuple[type[nn.Module], ...] = (*_INTERFACES, *_TWO_STATES)
"""Neurons that are known; subclasses may do anything."""
