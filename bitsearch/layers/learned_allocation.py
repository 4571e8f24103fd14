"""What a quantized layer learns beside its weights: bit widths, time steps, and the step sizes that belong to them."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.choices import Choices, Span
from bitsearch.plan import LayerPlan
from bitsearch.quant.membrane_width import MembraneWidth, membrane_width
from bitsearch.quant.step_sizes import step_size
from bitsearch.quant.uniform import SMALLEST_STEP

LOG_STEP_RANGE = (math.log(SMALLEST_STEP), 50.0)
"""Bounds of the learned logarithms: neither a zero nor an infinite step."""

HYSTERESIS = 0.05
"""Hysteresis: a latent must pass the rounding boundary by this much before the bits change, which prevents
oscillation."""


class LearnedAllocation(nn.Module):
    """A layer's allocation, held twice: as latents (b̂, T̂), which the optimizer moves, and as the rounded values.

    The rounded ones are all that a forward pass uses.

    Buffers hold the rounded allocation, ``weight_bits`` (scalar), ``spike_bits`` (``[T_max]``), ``time_steps``
    (scalar), and for which bits each step size was set (``*_step_bits``, 0 before the first batch). Step sizes are
    learned as logarithms: an optimizer's step is then relative to a size that may be 1e-3 as well as 1, and none can
    reach zero (Jain et al. 2019, arXiv 1903.08066).

    Without latents the allocation is fixed.

    Layers that share a number have one latent of it (:mod:`bitsearch.layers.sharing`), and round it alike.
    """

    weight_partners: tuple["LearnedAllocation", ...]
    """Other layers that have the same weight, and one step size of it with this one."""
    spike_partners: tuple["LearnedAllocation", ...]
    """Other layers that read the same spikes, and have one step size of each time step with this one."""
    weight: Tensor
    weight_log_step: nn.Parameter
    spike_log_step: nn.Parameter
    weight_latent: nn.Parameter | None
    spike_latent: nn.Parameter | None
    time_latent: nn.Parameter | None
    weight_bits: Tensor
    spike_bits: Tensor
    time_steps: Tensor
    weight_step_bits: Tensor
    spike_step_bits: Tensor
    membrane_at_steps: int | None
    """Width of its membranes at several time steps, where it may get several; None: the widest that it may have."""
    released: Tensor | None
    """1 once the neuron sends all levels of its bits, 0 before; None where that never changes."""

    def add_allocation(self, plan: LayerPlan, choices: Choices | None) -> None:
        """Take the plan's bits; with ``choices``, latents that may move within them."""
        self.signed_input, self.decay = plan.signed_input, plan.decay
        self.granularity, self.spike_granularity = plan.granularity, plan.spike_granularity
        self.step_sizes = plan.step_sizes
        self.membrane_at_steps: int | None = None
        self._take_membrane(plan)
        self.frames, self.loop = plan.frames, plan.loop
        self.neurons, self.pooled, self.in_place = plan.neurons, plan.pooled, plan.in_place
        self.stream = plan.stream
        self.neuron = plan.neuron
        self.choices = choices
        self.weight_partners = self.spike_partners = ()
        self.renew_weights = self.renew_spikes = True
        self.renewals = 0
        self.has_run = False
        slots = plan.time_steps if choices is None else choices.time_steps.high
        device = self.weight.device
        outputs = self.output_first(self.weight).shape[0]
        step_shape = (outputs, *[1] * (self.weight.dim() - 1)) if self.granularity == "channel" else ()
        self.weight_log_step = nn.Parameter(torch.zeros(step_shape, dtype=torch.float32, device=device))
        self.spike_log_step = nn.Parameter(torch.zeros(slots, dtype=torch.float32, device=device))
        self.register_buffer("weight_bits", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("spike_bits", torch.zeros(slots, dtype=torch.float32, device=device))
        self.register_buffer("time_steps", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("weight_step_bits", torch.zeros((), dtype=torch.float32, device=device))
        self.register_buffer("spike_step_bits", torch.zeros(slots, dtype=torch.float32, device=device))
        self.register_buffer("released", None)
        self.weight_latent = self.spike_latent = self.time_latent = None
        self._write(plan)
        if choices is not None:
            self.weight_latent = nn.Parameter(self.weight_bits.clone())
            self.spike_latent = nn.Parameter(self.spike_bits.clone())
            self.time_latent = nn.Parameter(self.time_steps.clone())

    def output_first(self, weight: Tensor) -> Tensor:
        """``weight``, in a layer's layout, as ``[outputs, inputs / groups, ...]``; a channel is an output."""
        return weight

    def in_layout(self, weight: Tensor) -> Tensor:
        """The reverse of :meth:`output_first`."""
        return weight

    def _write(self, plan: LayerPlan) -> None:
        # A step beyond T is not in use; it shows the last one's bits, and gets fresh ones when it comes into use.
        unused = len(self.spike_bits) - plan.time_steps
        self.weight_bits.fill_(plan.weight_bits)
        self.spike_bits.copy_(torch.tensor([*plan.spike_bits, *plan.spike_bits[-1:] * unused]))
        self.time_steps.fill_(plan.time_steps)
        self.refresh_cache()

    def _take_membrane(self, plan: LayerPlan) -> None:
        self.membrane_bits = plan.membrane_bits
        if plan.time_steps > 1:
            self.membrane_at_steps = plan.membrane_bits

    def refresh_cache(self) -> None:
        """Read the buffers into the Python numbers that steer the forward pass; call after writing to them."""
        self.active_steps = int(self.time_steps)
        weight_bits, weight_for = int(self.weight_bits), int(self.weight_step_bits)
        spikes = list(zip(self.spike_bits.tolist(), self.spike_step_bits.tolist(), strict=True))[: self.active_steps]
        self._stale_weight = weight_bits != weight_for
        self._first_spikes = any(not for_bits for _, for_bits in spikes)
        self._stale_spikes = [t for t, (bits, for_bits) in enumerate(spikes) if bits != for_bits]
        self._allocation = (weight_bits, tuple(int(bits) for bits, _ in spikes), self.active_steps)
        if self.is_learnable and self.choices is not None and self.choices.chooses_membranes:
            # Time steps may come and go: a single one has the narrowest membranes.
            self.membrane_bits = self.choices.membrane_at(self.active_steps, self.membrane_at_steps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if self.released is not None:
            # Files of earlier versions do not say it.
            state_dict.setdefault(f"{prefix}released", self.released)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if self.released is not None and self.neuron is not None:
            self.neuron = self.neuron.model_copy(update={"largest": None if self.released else 1.0})
        self.refresh_cache()

    @property
    def weight_step(self) -> Tensor:
        """Step size of the weights: a scalar, or ``[C, 1, ...]``."""
        return step_size(self.weight_log_step, power_of_two=self.power_of_two)

    @property
    def spike_step(self) -> Tensor:
        """Step size of each time step's spikes, ``[T_max]``; where one is for all, the first parameter is it."""
        shared = self.spike_granularity == "layer"
        steps = step_size(self.spike_log_step[:1] if shared else self.spike_log_step, power_of_two=self.power_of_two)
        return steps.repeat(len(self.spike_log_step)) if shared else steps

    @property
    def membrane_width(self) -> MembraneWidth | None:
        """Width and unit of its membranes, for the spike bits that it has; None of floats."""
        if self.membrane_bits is None:
            return None
        return membrane_width(self.membrane_bits, self._allocation[1], signed=self.signed_input)

    @property
    def power_of_two(self) -> bool:
        """True if step sizes are powers of two."""
        return self.step_sizes == "power_of_two"

    @property
    def is_learnable(self) -> bool:
        """True while the bits may still move."""
        return self.weight_latent is not None

    @property
    def replaces_neurons(self) -> bool:
        """True if its neuron stands for the network's own, which fire at 1."""
        return self.neuron is not None and self.neurons != ()

    @property
    def is_silent(self) -> bool:
        """True if the layer has run and got nothing that fires, so that no spike step of those in use has a size."""
        # A weight that layers share may have its step from another one that ran.
        ran = self.has_run or not self.weight_partners
        return ran and bool(self.weight_step_bits) and not bool(self.spike_step_bits[: self.active_steps].any())

    @property
    def latents(self) -> Tensor:
        """``[2 + T_max]``: latents of weight bits, time steps, and each step's spike bits; only while learnable."""
        assert self.weight_latent is not None
        assert self.time_latent is not None
        assert self.spike_latent is not None
        return torch.cat([self.weight_latent.view(1), self.time_latent.view(1), self.spike_latent])

    @property
    def layer_plan(self) -> LayerPlan:
        """The rounded allocation as plan data."""
        weight_bits, spike_bits, time_steps = self._allocation
        return LayerPlan(
            weight_bits=weight_bits,
            spike_bits=spike_bits,
            time_steps=time_steps,
            granularity=self.granularity,
            spike_granularity=self.spike_granularity,
            step_sizes=self.step_sizes,
            membrane_bits=self.membrane_bits,
            signed_input=self.signed_input,
            decay=self.decay,
            frames=self.frames,
            loop=self.loop,
            neurons=self.neurons,
            pooled=self.pooled,
            in_place=self.in_place,
            stream=self.stream,
            neuron=self.neuron,
        )

    @torch.no_grad()
    def round_latents(self, weight: float, spikes: list[float], time_steps: float) -> bool:
        """Round given latent values into the buffers, with hysteresis; True if any rounded value changed."""
        old_weight, old_spikes, old_time = self._allocation
        assert self.spike_latent is not None
        assert self.choices is not None
        new_weight = _follow(weight, old_weight, self.choices.weight_bits)
        new_time = _follow(time_steps, old_time, self.choices.time_steps)
        allowed = self.choices.spike_bits
        new_spikes = [_follow(value, old, allowed) for value, old in zip(spikes, old_spikes, strict=False)][:new_time]
        for t in range(old_time, new_time):
            # A time step that comes into use starts from its predecessor's bits and gets a step size of its own.
            new_spikes.append(new_spikes[-1])
            self.spike_latent[t] = float(new_spikes[-1])
            self.spike_step_bits[t] = 0
        if (new_weight, tuple(new_spikes), new_time) == self._allocation:
            return False
        self._forget_steps(new_time)
        self._write(
            LayerPlan(
                weight_bits=new_weight,
                spike_bits=tuple(new_spikes),
                time_steps=new_time,
                signed_input=self.signed_input,
            )
        )
        return True

    def _forget_steps(self, time_steps: int) -> None:
        """Let all step sizes be set anew where the network's own neuron gets other bins of its frames."""
        if self.replaces_neurons and self.frames is not None and time_steps != self.active_steps:
            self.spike_step_bits.zero_()

    @torch.no_grad()
    def set_bits(self, plan: LayerPlan) -> None:
        """Put the latents at a plan's bits; unlike :meth:`fix`, they stay, and may move from there."""
        assert self.weight_latent is not None
        assert self.spike_latent is not None
        assert self.time_latent is not None
        # A time step that comes into use gets a step size of its own.
        self.spike_step_bits[self.active_steps : plan.time_steps] = 0
        self._forget_steps(plan.time_steps)
        self._take_membrane(plan)
        self._write(plan)
        self.weight_latent.copy_(self.weight_bits)
        self.spike_latent.copy_(self.spike_bits)
        self.time_latent.copy_(self.time_steps)

    def remember_release(self) -> None:
        """Keep in the state whether a neuron of single spikes sends more by now, which training changes."""
        if self.neuron is not None and self.neuron.largest == 1:
            self.released = torch.zeros((), dtype=torch.float32, device=self.weight.device)

    @torch.no_grad()
    def release_spikes(self) -> None:
        """Let the neuron send all levels of its bits from now on, where they are learned, or more than one."""
        if self.neuron is not None and (self.is_learnable or max(self._allocation[1]) > 1):
            if self.released is not None and self.neuron.largest == 1:
                self.released.fill_(1)
            self.neuron = self.neuron.multi_bit()

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Keep latents inside their choices and steps finite; call after every optimizer step."""
        self.weight_log_step.clamp_(*LOG_STEP_RANGE)
        self.spike_log_step.clamp_(*LOG_STEP_RANGE)
        if self.choices is not None and self.weight_latent is not None:
            assert self.spike_latent is not None
            assert self.time_latent is not None
            self.weight_latent.clamp_(self.choices.weight_bits.low, self.choices.weight_bits.high)
            self.spike_latent.clamp_(self.choices.spike_bits.low, self.choices.spike_bits.high)
            self.time_latent.clamp_(self.choices.time_steps.low, self.choices.time_steps.high)

    @torch.no_grad()
    def fix(self, plan: LayerPlan) -> None:
        """Take the plan's bits and drop the latents; steps whose bits differ are renewed at the next forward pass."""
        slots = plan.time_steps
        self._forget_steps(slots)
        kept_steps, kept_for = self.spike_log_step.detach(), self.spike_step_bits.clone()
        # A time step that was out of use has no step size of its own yet.
        kept_for[self.active_steps :] = 0
        # A partner that was fixed before has given the sizes their new length already.
        self.spike_log_step = nn.Parameter(_resized(kept_steps, slots))
        self.spike_step_bits = kept_for = _resized(kept_for, slots)
        self.spike_bits = kept_for.new_zeros(slots)
        self.weight_latent = self.spike_latent = self.time_latent = None
        # From here on the plan says it.
        self.released = None
        self.renew_weights = self.renew_spikes = True
        for partner in self.spike_partners:
            partner.spike_log_step = self.spike_log_step
        self._take_membrane(plan)
        self._write(plan)

    def part_weight_step(self) -> None:
        """Have a weight step of its own again, as layers with one weight had in files of earlier versions."""
        self.weight_log_step = nn.Parameter(self.weight_log_step.detach().clone())
        self.weight_partners = ()


def _resized(values: Tensor, count: int) -> Tensor:
    """The first ``count`` values, with zeros where there are fewer."""
    return torch.cat([values[:count], values.new_zeros(max(0, count - len(values)))])


def _follow(latent: float, current: int, allowed: Span) -> int:
    target = allowed.nearest(latent)
    step = allowed.neighbour(current, 1 if target > current else -1)
    half_way = 0.0 if step is None else abs(step - current) / 2
    return target if abs(latent - current) > half_way + HYSTERESIS else current
