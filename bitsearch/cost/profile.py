"""A network's costs layer by layer, without training anything."""

from collections.abc import Mapping

import pandas as pd
from torch import nn

from bitsearch.choices import Choices
from bitsearch.cost.geometry import DEPENDS_ON_DATA
from bitsearch.cost.layer_choices import listing
from bitsearch.cost.model import CostModel
from bitsearch.cost.rules import AllowedBits
from bitsearch.cost.spike_products import FLOAT_BITS
from bitsearch.frameworks.plain_layers import separated
from bitsearch.plan import LayerPlan


def profile(
    network: nn.Module, model: CostModel, plan: Mapping[str, LayerPlan], rules: AllowedBits | None = None
) -> pd.DataFrame:
    """One row a layer, with every metric that does not need firing rates.

    Args:
        network: the float network that ``model`` was traced on.
        model: cost model of the network.
        plan: bits of the layers.
        rules: what each layer may get; None leaves those columns out.

    Returns:
        Columns ``layer``, ``kind``, ``shape`` (of its weight), ``macs``, ``weights``, ``inputs``, ``weight_bits``,
        ``spike_bits``, ``time_steps``, ``membrane_bits`` (empty where membranes are floats); ``reads`` (the neurons
        that its input comes from), ``gives_way`` (those of them that give way to its own), ``frames``, ``calls`` (for
        one input), ``loop``; ``tied`` (what it shares with which layers, and why); ``note`` (the reason for which it
        has no bits); with ``rules``, ``allowed.weight_bits``, ``allowed.spike_bits``, ``allowed.time_steps`` and
        ``allowed.membrane_bits`` (the values that it may get, of membranes empty where nothing says them), and ``rule``
        (where each of them, and how it is quantized, comes from); the layer's cost by every metric, under the metric's
        name, and for metrics that add up over the layers ``share.METRIC``, its part of the network's.
    """
    modules = dict(separated(network).named_modules())
    ties = model.ties
    records: list[dict[str, object]] = []
    for layer in (*model.layers, *model.unquantized):
        module, layer_plan = modules[layer.name], plan.get(layer.name)
        weight = getattr(module, "weight", None)
        wide, narrow = layer.factor_bits or (FLOAT_BITS, FLOAT_BITS)
        records.append(
            {
                "layer": layer.name,
                "kind": type(module).__name__,
                "shape": "×".join(str(size) for size in weight.shape) if weight is not None and layer.weights else "",
                "macs": layer.macs,
                "weights": layer.weights,
                "inputs": layer.inputs,
                "weight_bits": round(wide, 2) if layer_plan is None else layer_plan.weight_bits,
                "spike_bits": " ".join((f"{narrow:.4g}",) if layer_plan is None else map(str, layer_plan.spike_bits)),
                "time_steps": (layer.frames or 1) if layer_plan is None else layer_plan.time_steps,
                "membrane_bits": "" if layer_plan is None else layer_plan.membrane_bits or "",
                "reads": layer.reads,
                "gives_way": " ".join(layer.neurons),
                "frames": layer.frames or 1,
                "calls": layer.calls,
                "loop": layer.loop or "",
                "tied": "; ".join(str(tie) for tie in ties if layer.name in tie.layers),
                "note": layer.fixed_reason or (DEPENDS_ON_DATA if layer.data_dependent else ""),
            }
            | ({} if rules is None else _allowed(layer.name, rules))
        )
    table = pd.DataFrame(records)
    for name, metric in model.metrics.items():
        if model.needs_activity(name):
            continue
        costs = model.layer_costs(name, plan)
        table[name] = table["layer"].map(costs)
        if metric.additive:
            table[f"share.{name}"] = table[name] / model.cost(name, plan)
    return table


def _allowed(name: str, rules: AllowedBits) -> dict[str, object]:
    """The columns of what a layer may get, empty for one without bits."""
    choices = rules.choices.get(name)
    spans = {} if choices is None else {number: getattr(choices, number) for number in Choices.model_fields}
    return {
        **{
            f"allowed.{number}": "" if spans.get(number) is None else listing(spans[number].values)
            for number in Choices.model_fields
        },
        "rule": "" if choices is None else rules.origin(name),
    }
