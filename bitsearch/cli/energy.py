"""``profile --energy-model``: what others' models say of a plan's energy, beside the hardware target's table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bitsearch.cli.terminal.console import Console
from bitsearch.energy_models import ENERGY_MODELS, Estimate
from bitsearch.errors import InputError, suggestion

if TYPE_CHECKING:
    from bitsearch.cost import CostModel

SAMPLES = 8
"""Training samples whose spikes are counted."""
FACTOR = 2
"""From which on the documentation says why estimates differ."""


@dataclass(frozen=True)
class EnergyComparison:
    """Estimates for one input, in pJ."""

    target: str
    by_target: float | None
    """None where the target has no table of energies."""
    by_model: Mapping[str, Estimate]

    def record(self) -> dict[str, object]:
        """As ``--json`` has it."""
        models = {
            name: asdict(estimate) | {"sources": ENERGY_MODELS[name].sources, "omits": ENERGY_MODELS[name].omits}
            for name, estimate in self.by_model.items()
        }
        return {"samples": SAMPLES, "target": self.by_target, "models": models}


def check_energy_models(names: Sequence[str], plan: Path | None) -> None:
    """Raise InputError unless these are energy models, and there is a plan whose firing they can be of."""
    from bitsearch.runs.rebuild import run_folder_of

    for name in names:
        if name not in ENERGY_MODELS:
            raise InputError(
                f"--energy-model is {name!r}; allowed: {', '.join(ENERGY_MODELS)}{suggestion(name, ENERGY_MODELS)}"
            )
    if names and (plan is None or run_folder_of(plan) is None):
        raise InputError(
            "--energy-model counts the spikes of a trained network, and "
            f"{'no plan is given' if plan is None else f'{plan} lies in no run folder'}; give --plan, a plan of a run"
        )


def compare_energies(names: Sequence[str], plan: Path, model: "CostModel", *, trust: bool) -> EnergyComparison:
    """Of a run's plan, by the target of ``model`` and by the named models, with the spikes of the same samples.

    Raises:
        InputError: the run's network is not the one that ``model`` counts, or an energy model does not know a layer.
    """
    from bitsearch.energy_models.comparison import estimates
    from bitsearch.layers.network import QuantizedNetwork
    from bitsearch.network_inputs import narrowed
    from bitsearch.plan import BitPlan
    from bitsearch.runs.rebuild import restore
    from bitsearch.train.evaluate import measure_activity

    bits = BitPlan.load(plan)
    network, task = restore(bits, plan, trust=trust, device="cpu")
    profiled, trained = (
        [(layer.name, layer.shape, layer.macs, layer.inputs) for layer in each.layers] for each in (model, task.model)
    )
    if profiled != trained:
        raise InputError(f"{plan} is of a network with other layers than the one to profile; name the space of its run")
    axis = int(task.splits.frames is not None)
    samples = [narrowed(task.examples, axis, i, 1) for i in range(SAMPLES)]
    by_target = None
    if "energy" in model.metrics:
        counted = QuantizedNetwork(network, model, task.rules, task.space.baseline)
        by_target = model.cost("energy", bits.layers, measure_activity(counted, *samples))
    return EnergyComparison(model.target.name, by_target, estimates(names, network, model, samples))


def print_energies(comparison: EnergyComparison) -> None:
    """A table of them, and where each comes from."""
    from bitsearch import text as formats

    def text(picojoules: float | None) -> str:
        return "" if picojoules is None else formats.cost("energy", picojoules)

    console = Console()
    screen = Table(title=f"Energy for one input, with the spikes of {SAMPLES} training samples", title_justify="left")
    for column in ("by", "arithmetic", "memory", "total", "× target"):
        screen.add_column(column, justify="left" if column == "by" else "right")
    if comparison.by_target is not None:
        screen.add_row(Text(f"target {comparison.target}"), "", "", text(comparison.by_target), "1")
    ratios = {}
    for name, estimate in comparison.by_model.items():
        if comparison.by_target:
            ratios[name] = estimate.total / comparison.by_target
        ratio = formats.number(ratios[name]) if name in ratios else ""
        screen.add_row(name, text(estimate.arithmetic), text(estimate.memory), text(estimate.total), ratio)
    console.print(screen)
    for name in comparison.by_model:
        entry = ENERGY_MODELS[name]
        omits = f"; without {entry.omits}" if entry.omits else ""
        console.print(Text(f"{name}: {entry.summary}{omits} ({'; '.join(entry.sources)})"), soft_wrap=True)
    if any(not 1 / FACTOR <= ratio <= FACTOR for ratio in ratios.values()):
        console.print("docs/hardware-targets.md says why estimates differ: A second opinion", highlight=False)
