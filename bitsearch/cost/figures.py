"""The figures of a hardware target: each has a unit, and each has to name its source."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from bitsearch.cost.target_tables import LayerKind

FIGURES: dict[str, str] = {
    "weight_bits": "bits",
    "spike_bits": "bits",
    "max_time_steps": "time steps",
    "membrane_bits": "bits",
    "accumulator_bits": "bits",
    "memory.weight_bytes": "bytes",
    "memory.working_bytes": "bytes",
    "cores.count": "cores",
    "cores.bytes_each": "bytes",
    "cores.neurons_each": "neurons",
    "cores.synapses_each": "weights",
    "energy.bit_operation": "pJ a bit operation",
    "energy.accumulate": "pJ an accumulation",
    "energy.weight_byte": "pJ a byte",
    "energy.state_byte": "pJ a byte",
    "energy.limit": "pJ an input",
    "latency.clock": "Hz",
    "latency.bit_operations_per_cycle": "bit operations a cycle",
    "latency.macs_per_cycle": "MACs a cycle",
    "latency.layer_overhead_cycles": "cycles",
    "latency.limit": "s an input",
    "limits.layer_kinds": "kinds of layers",
    "limits.layers": "layers",
    "limits.neurons": "neurons",
    "limits.synapses": "weights",
    "limits.fan_in": "inputs a neuron",
    "limits.fan_out": "neurons that a spike goes to",
    "limits.input_channels": "channels",
    "limits.input_size": "pixels a side",
    "limits.output_channels": "channels",
    "limits.pooling": "kinds of pooling",
    "limits.resets": "kinds of reset",
    **{
        f"{kind}.{name}": unit
        for kind in get_args(LayerKind)
        for name, unit in {
            "weight_bits": "bits",
            "kernel_sizes": "pixels a side",
            "strides": "pixels",
            "input_channels": "channels",
            "output_channels": "channels",
        }.items()
        if kind != "linear" or name not in ("kernel_sizes", "strides")
    },
}
"""Units of the figures that a target may have; every figure needs an entry under ``[sources]``."""


def figures_of(model: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(value, default) of the figures that the ``fields`` of a target, validated so far, have, by key."""
    values = {}
    for key in FIGURES:
        table, _, name = key.rpartition(".")
        table_class = type(fields[table]) if fields.get(table) else model
        value = getattr(fields.get(table), name, None) if table else fields.get(name)
        if value is not None:
            values[key] = (value, table_class.model_fields[name].default)
    return values
