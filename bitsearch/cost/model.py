"""The cost model of one network: every metric, for plans (exact) and for tensors (differentiable)."""

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from bitsearch.choices import FirstLayer, NeuronChoice, Tie
from bitsearch.cost.formulas import mean_bits, means
from bitsearch.cost.geometry import LayerGeometry, NetworkGeometry
from bitsearch.cost.metric import Bits, Geometry, Metric, Vector
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.spike_products import FLOAT_BITS
from bitsearch.cost.target import Target
from bitsearch.cost.ties import populations, resolved
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import describe
from bitsearch.frameworks.plain_layers import separated
from bitsearch.layer_rules import TieRule
from bitsearch.plan import LayerPlan, NeuronSettings, UniformBits


@dataclass(frozen=True)
class SpikeStatistics:
    """Measured firing rates, by layer name."""

    firing_rate: Mapping[str, float] = field(default_factory=dict)
    """Share of the spikes that are not zero."""
    synaptic_rate: Mapping[str, float] = field(default_factory=dict)
    """Share of the MACs whose spike is not zero."""


class CostModel:
    """Costs of one network's layers.

    Args:
        layers: geometry in the order of :func:`bitsearch.cost.tracing.trace`.
        first_layer_counted: False leaves the first layer out of the bit and operation counts.
        target: hardware that energy, latency, cores and working memory are for; ``generic`` by default.
        declared: names of the metrics that the search space declares.
        ties: layers that share numbers, beside those that the network and the target tie.

    Raises:
        InputError: no layer is counted, or a tie names none.
    """

    def __init__(
        self,
        layers: Sequence[LayerGeometry],
        *,
        first_layer_counted: bool = True,
        target: Target | None = None,
        declared: Collection[str] = (),
        ties: Iterable[Tie | TieRule] = (),
    ) -> None:
        self.declared = tuple(declared)
        self._own = {name: METRICS[name] for name in self.declared}
        """As they are now: another space of the process may declare others by these names."""
        self.layers = tuple(layer for layer in layers if layer.fixed_reason is None)
        """The layers that get bits."""
        self.unquantized = tuple(layer for layer in layers if layer.fixed_reason is not None)
        """The layers without bits; every total includes their cost at 32 bits."""
        self.staying: Mapping[str, str] = layers.staying if isinstance(layers, NetworkGeometry) else {}
        """Why a spiking neuron of the network stays in it, by module path."""
        self.poolings = layers.poolings if isinstance(layers, NetworkGeometry) else None
        """Kinds of the network's poolings, by module path; None where they are not known."""
        self.first_layer_counted = first_layer_counted
        self.target = target or Target.load("generic")
        self.ties = resolved(self.layers, ties, one_spike_stream=self.target.one_spike_stream)
        """The layers that share numbers."""
        self._populations = populations(self.layers, self.ties)
        self.one_step: frozenset[str] = frozenset()
        """The layers with one spike step size for all time steps, of plans that do not say it themselves."""
        self.membranes: Mapping[str, int] = {}
        """By layer, the width of its membranes where it is not the target's, of plans that do not say it themselves."""
        if not any(self._is_counted(layer) for layer in self.layers):
            raise InputError("no layer is left to count; set first_layer.counted = true")
        self._numbers = self._geometry(SpikeStatistics())
        self._tensors: dict[torch.device, tuple[SpikeStatistics | None, Geometry]] = {}

    def with_membranes(self, plan: Mapping[str, LayerPlan]) -> Self:
        """The costs of the same network where membranes have a plan's widths while nothing else is said of them."""
        widths = {name: layer.membrane_bits for name, layer in plan.items() if layer.membrane_bits is not None}
        return self.with_one_step(self.one_step, {**self.membranes, **widths})

    def with_one_step(self, names: Iterable[str], membranes: Mapping[str, int] | None = None) -> Self:
        """The costs of the same network where layers of these names have one spike step size for all time steps.

        ``membranes`` are the widths of those that have another than the target's.
        """
        model = copy.copy(self)
        model.one_step = frozenset(names)
        model.membranes = dict(membranes or {})
        model._numbers = model._geometry(SpikeStatistics())
        model._tensors = {}
        return model

    def read_decays(self, network: nn.Module) -> None:
        """Take the decays from the neurons of ``network``, the traced one after training: some neurons learn theirs."""
        modules = dict(separated(network).named_modules())
        self.layers = tuple(
            replace(layer, decay=describe(modules[layer.neurons[0]]).decay) if layer.neurons else layer
            for layer in self.layers
        )

    def choose_neurons(self, choice: NeuronChoice) -> None:
        """Let the neurons of all layers be as chosen; one with a sign has no reset to choose, and stays as it is."""
        self.layers = tuple(replace(layer, neuron=choice.of(layer.neuron)) for layer in self.layers)

    def sign_inputs(self) -> None:
        """Let the layers be signed that are wherever the network's own input may be below zero."""
        self.layers = tuple(
            replace(layer, signed_input=layer.signed_input or layer.follows_input) for layer in self.layers
        )
        self._numbers, self._tensors = self._geometry(SpikeStatistics()), {}

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that the target can be measured by, and those that the search space declares."""
        known = {name: metric for name, metric in METRICS.items() if metric.everywhere} | self._own
        return {name: metric for name, metric in known.items() if metric.available(self.target)}

    @property
    def heads(self) -> tuple[LayerGeometry, ...]:
        """The layers with bits whose results the network returns; where none was seen, the last that runs."""
        return tuple(layer for layer in self.layers if layer.head) or self.layers[-1:]

    def metric(self, name: str) -> Metric:
        """The metric of that name, by this network's search space; InputError for one that another space declares."""
        metric = self._own.get(name) or METRICS[name]
        if name not in self._own and not metric.everywhere:
            raise InputError(
                f"{name} is a search space's own function, which is not run here; take another metric, or begin anew "
                "from that space"
            )
        return metric

    def neurons_of(self, name: str) -> str:
        """The layer whose neurons' spikes a layer reads: itself, or the first that has these in common with it."""
        layer = next(layer for layer in self.layers if layer.name == name)
        return self._populations.get(name, layer.stream_of or name)

    def needs_activity(self, metric: str) -> bool:
        """True if a metric needs firing rates."""
        return self.metric(metric).activity(self.target)

    def _is_counted(self, layer: LayerGeometry) -> bool:
        return self.first_layer_counted or not layer.first

    def geometry(self, activity: SpikeStatistics | None = None) -> Geometry:
        """The counts as float64 NumPy vectors, layers with bits first; rates that ``activity`` lacks are NaN."""
        return self._numbers if activity is None else self._geometry(activity)

    def _geometry(self, activity: SpikeStatistics) -> Geometry:
        layers = (*self.layers, *self.unquantized)

        def vector(values: Sequence[float]) -> Vector:
            return np.asarray(values, dtype=np.float64)

        def rates(rates_by_layer: Mapping[str, float]) -> Vector:
            # A layer that is not quantized gets no spikes: all of its inputs count.
            default_rates = {layer.name: 1.0 if layer.fixed_reason else math.nan for layer in layers}
            return vector([rates_by_layer.get(name, default_rates[name]) for name in default_rates])

        call_inputs = [layer.inputs if layer.call_inputs is None else layer.call_inputs for layer in layers]
        # Neurons that several layers read are those of the first.
        neurons = [float(layer.name not in self._populations) for layer in layers]
        membranes = vector(neurons) * vector(
            [layer.inputs if layer.membranes is None else layer.membranes for layer in layers]
        )
        return Geometry(
            macs=vector([layer.macs for layer in layers]),
            weights=vector([layer.weights for layer in layers]),
            inputs=vector([layer.inputs for layer in layers]),
            sent=vector(neurons) * vector([layer.inputs for layer in layers]),
            membranes=membranes,
            on_chip=membranes * vector([float(_reads_neurons(layer)) for layer in layers]),
            call_sent=vector(neurons) * vector(call_inputs),
            call_membranes=vector(neurons)
            * vector(
                [
                    inputs if layer.membranes is None else layer.membranes
                    for layer, inputs in zip(layers, call_inputs, strict=True)
                ]
            ),
            outputs=vector([layer.outputs for layer in layers]),
            count_mask=vector([float(self._is_counted(layer)) for layer in layers]),
            firing_rates=rates(activity.firing_rate),
            synaptic_rates=rates(activity.synaptic_rate),
            target=self.target,
            quantized=vector([float(layer.fixed_reason is None) for layer in layers]),
            step_owners=vector(
                [
                    *(float(self.neurons_of(layer.name) == layer.name) for layer in self.layers),
                    *(0.0 for _ in self.unquantized),
                ]
            ),
            steps_in_time=self._steps_in_time(self.one_step),
            addends=vector([0 if layer.shape is None else layer.shape.addends for layer in layers]),
            signed=vector([float(layer.signed_input) for layer in layers]),
            framed=vector([float(layer.frames is not None) for layer in layers]),
            streams=_streams(layers),
            widths=self._widths(self.membranes),
        )

    def _widths(self, membranes: Mapping[str, int]) -> Vector:
        names = [layer.name for layer in (*self.layers, *self.unquantized)]
        return np.asarray([membranes.get(name, self.target.membrane_bits) for name in names], dtype=np.float64)

    def _steps_in_time(self, one_step: Collection[str]) -> Vector:
        names = [layer.name for layer in (*self.layers, *self.unquantized)]
        return np.asarray([float(name not in one_step) for name in names])

    def _geometry_of(self, plan: Mapping[str, LayerPlan], activity: SpikeStatistics | None) -> Geometry:
        """With the step sizes of a plan."""
        one_step = [name for name, layer in plan.items() if layer.spike_granularity == "layer"]
        widths = {name: layer.membrane_bits for name, layer in plan.items() if layer.membrane_bits is not None}
        return replace(
            self.geometry(activity), steps_in_time=self._steps_in_time(one_step), widths=self._widths(widths)
        )

    def _geometry_on(self, device: torch.device, activity: SpikeStatistics | None) -> Geometry:
        if device not in self._tensors or self._tensors[device][0] is not activity:
            vectors = {name: value for name, value in vars(self.geometry(activity)).items() if name != "target"}
            tensors = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in vectors.items()}
            self._tensors[device] = (activity, Geometry(**tensors, target=self.target))
        return self._tensors[device][1]

    def vectors(
        self,
        weight_bits: Vector,
        spike_bits: Vector,
        time_steps: Vector,
        code_sums: Vector | None = None,
        membranes: Vector | None = None,
    ) -> Bits:
        """The bits of :attr:`layers`, ``[..., L]``, with those of :attr:`unquantized` appended."""
        if not self.unquantized:
            return Bits(weight_bits, spike_bits, time_steps, code_sums, membranes)

        def append(values: Vector, constants: Sequence[float]) -> Vector:
            shape = (*values.shape[:-1], len(constants))
            if isinstance(values, Tensor):
                return torch.cat([values, values.new_tensor(constants).expand(shape)], -1)
            return np.concatenate([values, np.broadcast_to(constants, shape)], -1)

        factors = [layer.factor_bits or (FLOAT_BITS, FLOAT_BITS) for layer in self.unquantized]
        wide, narrow = zip(*factors, strict=True)
        frames = [layer.frames or 1 for layer in self.unquantized]
        sums = None if code_sums is None else append(code_sums, [0] * len(self.unquantized))
        stored = [self.target.membrane_bits] * len(self.unquantized)
        widths = None if membranes is None else append(membranes, stored)
        return Bits(append(weight_bits, wide), append(spike_bits, narrow), append(time_steps, frames), sums, widths)

    def cost_tensor(
        self,
        metric: str,
        weight_bits: Tensor,
        spike_bits: Tensor,
        time_steps: Tensor,
        activity: SpikeStatistics | None = None,
    ) -> Tensor:
        """A metric as a scalar tensor, differentiable in the three ``[L]`` tensors (spike bits averaged over time).

        ``activity`` is constant. Memory and cores are whole numbers with the gradient of the number before rounding.
        """
        geometry = self._geometry_on(weight_bits.device, activity)
        cost: Tensor = self.metric(metric).cost(geometry, self.vectors(weight_bits, spike_bits, time_steps))
        return cost

    def mean_tensors(
        self, weight_bits: Tensor, spike_bits: Tensor, time_steps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(W̄, S̄, T̄) as scalar tensors; arguments as for :meth:`cost_tensor`."""
        geometry = self._geometry_on(weight_bits.device, None)
        terms = mean_bits(geometry, self.vectors(weight_bits, spike_bits, time_steps))
        weights, spikes, steps = means(*(term.sum() for term in terms))
        return weights, spikes, steps

    def _bits(self, plan: Mapping[str, LayerPlan]) -> Bits:
        missing = [layer.name for layer in self.layers if layer.name not in plan]
        unknown = sorted(set(plan) - {layer.name for layer in self.layers})
        if missing or unknown:
            names = ", ".join(layer.name for layer in self.layers)
            faults = [f"names {name!r}, which is not in the network" for name in unknown[:1]]
            faults += [f"does not name {name!r}" for name in missing[:1]]
            raise InputError(f"the plan {' and '.join(faults)}; the network's layers: {names}")
        layer_plans = [plan[layer.name] for layer in self.layers]
        return self.vectors(
            np.asarray([layer.weight_bits for layer in layer_plans], dtype=np.float64),
            np.asarray([layer.mean_spike_bits for layer in layer_plans], dtype=np.float64),
            np.asarray([layer.time_steps for layer in layer_plans], dtype=np.float64),
            np.asarray(
                [layer.code_sum(bits.spike_bits) for layer, bits in zip(self.layers, layer_plans, strict=True)],
                dtype=np.float64,
            ),
        )

    def cost(self, metric: str, plan: Mapping[str, LayerPlan], activity: SpikeStatistics | None = None) -> float:
        """One metric of a plan; NaN if it needs ``activity`` and this is None."""
        bits = self._bits(plan)
        return float(self.metric(metric).cost(self._geometry_of(plan, activity), bits))

    def costs(self, plan: Mapping[str, LayerPlan], activity: SpikeStatistics | None = None) -> dict[str, float]:
        """Every metric of a plan by name; without ``activity``, only the metrics that do not need it."""
        bits, geometry = self._bits(plan), self._geometry_of(plan, activity)
        return {
            name: float(metric.cost(geometry, bits))
            for name, metric in self.metrics.items()
            if activity is not None or not self.needs_activity(name)
        }

    def layer_costs(
        self, metric: str, plan: Mapping[str, LayerPlan], activity: SpikeStatistics | None = None
    ) -> dict[str, float]:
        """A metric of every layer alone, layers without bits included; NaN for a layer without a firing rate."""
        bits = self._bits(plan)
        terms = self.metric(metric).terms(self._geometry_of(plan, activity), bits)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = self.metric(metric).total(*terms)
        if not self.needs_activity(metric):
            # A layer that is not counted has no mean; an unknown cost stays NaN.
            values = np.nan_to_num(values, nan=0.0)
        names = [layer.name for layer in (*self.layers, *self.unquantized)]
        return dict(zip(names, values.tolist(), strict=True))

    def means(self, plan: Mapping[str, LayerPlan]) -> tuple[float, float, float]:
        """(W̄, S̄, T̄) of a plan."""
        weights, spikes, time_steps = means(*(term.sum() for term in mean_bits(self.geometry(), self._bits(plan))))
        return float(weights), float(spikes), float(time_steps)

    def first_bits(self, layer: LayerGeometry, first_layer: FirstLayer) -> UniformBits:
        """The first layer's fixed bits; time steps default to the frames of a moving input, or to one."""
        if layer.loop == "frames" and layer.frames is not None:
            return first_layer.bits().model_copy(update={"time_steps": layer.frames})
        has_moving_input = layer.frames is not None and not (layer.is_static_input and first_layer.time_steps is None)
        return first_layer.bits(min(layer.frames or 1, self.target.max_time_steps) if has_moving_input else None)

    def uniform(
        self,
        bits: UniformBits,
        first_layer: FirstLayer | None,
        *,
        granularity: str = "layer",
        step_sizes: str = "free",
        decay: float | None = None,
    ) -> dict[str, LayerPlan]:
        """A plan with ``bits`` on every layer; the first layer has ``first_layer``'s bits if this is not None.

        No layer gets more time steps than its input has frames. Without ``decay``, membranes decay as the network's
        neurons do, or not at all. Where all time steps have one step size, their unit, they have the width of ``bits``,
        or else the layer's or the target's.
        """
        plan = {}
        for layer in self.layers:
            layer_bits = self.first_bits(layer, first_layer) if layer.first and first_layer is not None else bits
            time_steps = layer_bits.time_steps if layer.frames is None else min(layer_bits.time_steps, layer.frames)
            time_steps = layer.frames if layer.loop == "frames" and layer.frames is not None else time_steps
            layer_plan = LayerPlan.model_validate(
                {
                    "weight_bits": layer_bits.weight_bits,
                    "spike_bits": (layer_bits.spike_bits,) * time_steps,
                    "time_steps": time_steps,
                    "granularity": granularity,
                    "spike_granularity": "layer" if layer.name in self.one_step else None,
                    "step_sizes": None if step_sizes == "free" else step_sizes,
                    "signed_input": layer.signed_input,
                    "decay": next((value for value in (decay, layer.decay) if value is not None), 1.0),
                    "frames": layer.frames,
                    "loop": layer.loop,
                    "neurons": layer.neurons,
                    "pooled": (layer.pooled and bool(layer.neurons)) or None,
                    "in_place": layer.in_place or None,
                    "stream": self._populations.get(layer.name),
                    "neuron": None if layer.signed_input or layer.neuron == NeuronSettings() else layer.neuron,
                }
            )
            # Not validated: a baseline of more spike bits than a membrane holds has its costs all the same.
            width = bits.membrane_bits or self.membranes.get(layer.name, self.target.plan_membrane_bits)
            width = width if layer.name in self.one_step else None
            plan[layer.name] = layer_plan.model_copy(update={"membrane_bits": width})
        return plan


def _reads_neurons(layer: LayerGeometry) -> bool:
    """True unless the layer has no neurons, or they would encode the network's own input."""
    return layer.fixed_reason is None and (not layer.first or bool(layer.neurons))


def _streams(layers: Sequence[LayerGeometry]) -> Vector:
    """``[L, streams]``: 1 where a layer reads a stream, those with bits that read the same values in one."""
    firsts = [layer.name if layer.source is None or layer.in_place else layer.source for layer in layers]
    columns = {name: column for column, name in enumerate(dict.fromkeys(firsts))}
    streams = np.zeros((len(layers), len(columns)))
    streams[range(len(layers)), [columns[name] for name in firsts]] = 1
    return streams
