"""The cost model of one network: every metric, for plans (exact) and for tensors (differentiable)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.metrics import METRICS, Bits, Geometry, Vector, mean_bits
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import FirstLayer


class CostModel:
    """Costs of one network's layers.

    Args:
        layers: geometry in the order of :func:`bitsearch.cost.geometry.trace`.
        first_layer_counted: False leaves the first layer out of the bit and operation counts.
    """

    def __init__(self, layers: Sequence[LayerGeometry], *, first_layer_counted: bool = True) -> None:
        self.layers = tuple(layers)
        self.first_layer_counted = first_layer_counted
        if not any(self._counted(layer) for layer in self.layers):
            raise InputError("no layer is left to count; set first_layer.counted = true")
        self._tensors: dict[torch.device, Geometry] = {}

    def _counted(self, layer: LayerGeometry) -> bool:
        return self.first_layer_counted or not layer.first

    def geometry(self, firing_rates: Mapping[str, float] | None = None) -> Geometry:
        """The counts as float64 NumPy vectors; firing rates NaN where not given."""
        rates = firing_rates or {}

        def vector(values: Sequence[float]) -> Vector:
            return np.asarray(values, dtype=np.float64)

        return Geometry(
            macs=vector([layer.macs for layer in self.layers]),
            weights=vector([layer.weights for layer in self.layers]),
            inputs=vector([layer.inputs for layer in self.layers]),
            outputs=vector([layer.outputs for layer in self.layers]),
            counted=vector([float(self._counted(layer)) for layer in self.layers]),
            firing_rates=vector([rates.get(layer.name, float("nan")) for layer in self.layers]),
        )

    def _geometry_on(self, device: torch.device) -> Geometry:
        if device not in self._tensors:
            numbers = self.geometry()
            fields = {
                name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in vars(numbers).items()
            }
            self._tensors[device] = Geometry(**fields)
        return self._tensors[device]

    def differentiable(self, metric: str, weight_bits: Tensor, spike_bits: Tensor, time_steps: Tensor) -> Tensor:
        """A metric as a scalar tensor, differentiable in the three ``[L]`` tensors (spike bits averaged over time)."""
        geometry = self._geometry_on(weight_bits.device)
        cost: Tensor = METRICS[metric].formula(geometry, Bits(weight_bits, spike_bits, time_steps))
        return cost

    def differentiable_means(
        self, weight_bits: Tensor, spike_bits: Tensor, time_steps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(W̄, S̄, T̄) as scalar tensors; arguments as for :meth:`differentiable`."""
        return mean_bits(self._geometry_on(weight_bits.device), Bits(weight_bits, spike_bits, time_steps))

    def _bits(self, plan: Mapping[str, LayerPlan]) -> Bits:
        missing = [layer.name for layer in self.layers if layer.name not in plan]
        unknown = sorted(set(plan) - {layer.name for layer in self.layers})
        if missing or unknown:
            names = ", ".join(layer.name for layer in self.layers)
            fault = f"does not name {missing[0]!r}" if missing else f"names {unknown[0]!r}, which is not in the network"
            raise InputError(f"the plan {fault}; the network's layers: {names}")
        chosen = [plan[layer.name] for layer in self.layers]
        return Bits(
            weights=np.asarray([layer.weight_bits for layer in chosen], dtype=np.float64),
            spikes=np.asarray([layer.mean_spike_bits for layer in chosen], dtype=np.float64),
            time_steps=np.asarray([layer.time_steps for layer in chosen], dtype=np.float64),
        )

    def cost(
        self, metric: str, plan: Mapping[str, LayerPlan], firing_rates: Mapping[str, float] | None = None
    ) -> float:
        """One metric of a plan; NaN if it needs firing rates that are not given."""
        return float(METRICS[metric].formula(self.geometry(firing_rates), self._bits(plan)))

    def costs(self, plan: Mapping[str, LayerPlan], firing_rates: Mapping[str, float] | None = None) -> dict[str, float]:
        """Every metric of a plan by name; those that need firing rates only if these are given."""
        geometry, bits = self.geometry(firing_rates), self._bits(plan)
        return {
            name: float(metric.formula(geometry, bits))
            for name, metric in METRICS.items()
            if firing_rates is not None or not metric.needs_firing_rates
        }

    def least(self, metric: str, smallest: UniformBits, first_layer: FirstLayer) -> float:
        """The smallest cost there is: ``smallest`` on every searched layer."""
        return self.cost(metric, self.uniform(smallest, first_layer))

    def means(self, plan: Mapping[str, LayerPlan]) -> tuple[float, float, float]:
        """(W̄, S̄, T̄) of a plan."""
        weights, spikes, time_steps = mean_bits(self.geometry(), self._bits(plan))
        return float(weights), float(spikes), float(time_steps)

    def uniform(
        self, bits: UniformBits, first_layer: FirstLayer | None, *, granularity: str = "layer", decay: float = 1.0
    ) -> dict[str, LayerPlan]:
        """``bits`` on every layer; the first keeps its own fixed bits, or gets ``bits`` if ``first_layer`` is None."""
        plan = {}
        for layer in self.layers:
            own = first_layer if layer.first and first_layer is not None else bits
            plan[layer.name] = LayerPlan.model_validate(
                {
                    "weight_bits": own.weight_bits,
                    "spike_bits": (own.spike_bits,) * own.time_steps,
                    "time_steps": own.time_steps,
                    "granularity": granularity,
                    "signed_input": layer.signed_input,
                    "decay": decay,
                }
            )
        return plan
