"""Where the results come from: what was asked for, of which version, with which seed."""

from collections.abc import Mapping, Sequence

from bitsearch.cost import Budget
from bitsearch.cost.budget import parse_request
from bitsearch.errors import InputError
from bitsearch.runs.folder import RunSettings
from bitsearch.text import cost, title


def facts(settings: RunSettings, samples: Mapping[str, int], seeds: Sequence[int]) -> dict[str, str]:
    """What it takes to run the search again; ``samples`` by split, ``seeds`` of the plans."""
    space = settings.space
    methods = " and ".join(space.search.methods or (space.allocation.method,)).replace("_", " ")
    counted = ", ".join(f"{count:,} for {name}" for name, count in samples.items())
    return {
        "Command": settings.command,
        "Seed": ", ".join(str(seed) for seed in sorted({settings.seed, *seeds})),
        "Data": f"{space.data}{f', {counted}' if counted else ''} (split seed {space.split_seed})",
        "Versions": f"bitsearch {settings.bitsearch}, torch {settings.torch}",
        "Device": f"{settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}",
        "Space": f"{space.name}: network {space.network}",
        "Hardware target": f"{settings.target.name}",
        "Training": (
            f"{space.training.epochs} epochs a trial, {space.training.full_precision_epochs} in full precision, "
            f"batches of {space.training.batch_size}"
        ),
        "Outer loop": f"{space.search.sampler}, {space.search.trials} {methods} trials asked for",
    }


def baseline_words(settings: RunSettings) -> str:
    """What the budget asked for stood for, in one or two sentences."""
    declared = settings.space.baseline
    bits = (
        f"w{declared.weight_bits} s{declared.spike_bits} T{declared.time_steps} "
        f"({declared.weight_bits}-bit weights, {declared.spike_bits}-bit spikes, {declared.time_steps} time steps)"
    )
    words = f"The declared baseline is {bits} on every layer, the first one included."
    for budget in settings.budgets:
        words += " " + _budget_words(budget, settings.baseline_costs.get(budget.metric))
    return words


def _budget_words(budget: Budget, baseline: float | None) -> str:
    name, limit = title(budget.metric), cost(budget.metric, budget.limit, 4)
    if budget.of_target:
        return f"The hardware has {name} of at most {limit}."
    try:
        ratio, value = parse_request(budget.requested, budget.metric)
    except InputError:
        ratio, value = False, 0.0
    if ratio and baseline is not None:
        whole = cost(budget.metric, baseline, 4)
        divided = f"a budget of {budget.requested} is that divided by {value:g}: at most {limit}."
        return f"The baseline's {name} is {whole}; {divided}"
    return f"The budget on {name} was given as {budget.requested}: at most {limit}."


def first_layer_words(settings: RunSettings) -> str:
    """How the first layer is treated."""
    first = settings.space.first_layer
    rule = settings.target.first_layer
    required = {} if rule is None else {name: value for name, value in rule if value is not None}
    bits = first.model_copy(update=required)
    counted = (
        "it counts in every cost"
        if first.counted
        else "it is left out of bit and operation counts, but not of the memory"
    )
    return (
        f"The first layer sees the signed network input: its bits are fixed at w{bits.weight_bits} "
        f"s{bits.spike_bits} T{bits.time_steps} in every plan, and {counted}."
    )
