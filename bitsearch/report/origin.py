"""The origin of a run's results, in sentences and facts: command, version, seed, baseline, first layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bitsearch.choices import NUMBERS
from bitsearch.cost import Budget
from bitsearch.cost.budget import parse_request
from bitsearch.errors import InputError
from bitsearch.layer_rules import last_rule
from bitsearch.plan import BitPlan
from bitsearch.runs.run_settings import RunSettings
from bitsearch.text import cost, score_text, title
from bitsearch.training import Training

MAX_LISTED_CLASSES = 12
"""Number of classes whose shares are listed at most, the largest first."""

MAX_LISTED_MODULES = 8
"""Number of modules without bits that are listed at most."""

RECIPE = {
    "optimizer",
    "optimizer_options",
    "momentum",
    "nesterov",
    "schedule",
    "warm_up",
    "milestones",
    "gamma",
    "gradient_clipping",
    "mixup",
    "ema",
    "early_stopping",
    "distillation",
}
"""Fields of ``[training]`` that are told where they are not as by default."""


def facts(
    settings: RunSettings, samples: Mapping[str, int], classes: Mapping[str, int], seeds: Sequence[int]
) -> dict[str, str]:
    """The facts from which the search can be run again.

    ``samples`` by split, validation samples by class, ``seeds`` of the plans.
    """
    space = settings.space
    methods = " and ".join(space.search.methods or (space.allocation.method,)).replace("_", " ")
    sample_text = ", ".join(f"{count:,} for {name}" for name, count in samples.items())
    return {
        "Command": settings.command,
        "Seed": ", ".join(str(seed) for seed in sorted({settings.seed, *seeds})),
        "Data": f"{space.data}{f', {sample_text}' if sample_text else ''} (split seed {space.split_seed})",
        **_classes(classes),
        "Versions": f"bitsearch {settings.bitsearch}, torch {settings.torch}",
        "Device": f"{settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}",
        "Space": f"{space.name}: network {space.network}",
        "Hardware target": f"{settings.target.name}",
        **_weights(settings),
        "Training": (
            f"{space.training.epochs} epoch{'s' if space.training.epochs > 1 else ''} a trial, "
            f"{space.training.full_precision_epochs} in full precision, "
            f"batches of {space.training.batch_size}{_recipe(space.training)}"
        ),
        "Outer loop": f"{space.search.sampler}, method {methods}",
    }


def unquantized_facts(plan: BitPlan) -> dict[str, str]:
    """What keeps 32 bits in every plan, and why."""
    listed = [f"{name} ({part.weights:,} weights; {part.reason})" for name, part in plan.unquantized.items()]
    remainder = f", and {len(listed) - MAX_LISTED_MODULES} more" if len(listed) > MAX_LISTED_MODULES else ""
    return {"Kept at 32 bits": ", ".join(listed[:MAX_LISTED_MODULES]) + remainder} if listed else {}


def _classes(counts: Mapping[str, int]) -> dict[str, str]:
    """Each class's share of the validation split."""
    if not counts:
        return {}
    largest_first = sorted(counts, key=lambda label: -counts[label])
    total = sum(counts.values())
    shares = [f"{label} {score_text(counts[label] / total)}" for label in largest_first[:MAX_LISTED_CLASSES]]
    remainder = f", and {len(counts) - len(shares)} smaller ones" if len(counts) > len(shares) else ""
    return {"Classes": f"{len(counts)}; of validation: {', '.join(shares)}{remainder}"}


def _recipe(training: Training) -> str:
    """What is not as it is by default, of how networks are trained."""
    named = RECIPE & training.model_dump(exclude_defaults=True).keys()
    values = {name: getattr(training, name) for name in Training.model_fields if name in named}
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in values.items())


def _weights(settings: RunSettings) -> dict[str, str]:
    """The file that full precision began with, if it did not begin with fresh weights."""
    if settings.space.weights is None or settings.weights_sha256 is None:
        return {}
    return {"Trained weights": f"{Path(settings.space.weights).name} (SHA-256 {settings.weights_sha256[:12]}…)"}


def baseline_words(settings: RunSettings) -> str:
    """Sentences on the baseline and on the limit of every budget."""
    baseline = settings.space.baseline
    bits = (
        f"{baseline} "
        f"({baseline.weight_bits}-bit weights, {baseline.spike_bits}-bit spikes, {baseline.time_steps} time steps)"
    )
    sentences = f"The declared baseline is {bits} on every layer, the first one included."
    for budget in settings.budgets:
        sentences += " " + _budget_words(budget, settings.baseline_costs.get(budget.metric))
    return sentences


def _budget_words(budget: Budget, baseline: float | None) -> str:
    name, limit = title(budget.metric), cost(budget.metric, budget.limit, 4)
    if budget.of_target:
        return f"The hardware has {name} of at most {limit}."
    try:
        ratio, value = parse_request(budget.requested, budget.metric)
    except InputError:
        ratio, value = False, 0.0
    if ratio and baseline is not None:
        baseline_cost = cost(budget.metric, baseline, 4)
        limit_text = f"a budget of {budget.requested} is that divided by {value:g}: at most {limit}."
        return f"The baseline's {name} is {baseline_cost}; {limit_text}"
    return f"The budget on {name} was given as {budget.requested}: at most {limit}."


def first_layer_words(settings: RunSettings, plan: BitPlan) -> str:
    """A sentence on the first layer's bits and on the counts that include it; the plan says what has none."""
    first_layer = settings.space.first_layer
    rule = settings.target.first_layer
    fixed_bits = {} if rule is None else {name: value for name, value in rule if value is not None}
    bits = first_layer.model_copy(update=fixed_bits)
    counting_text = (
        "it counts in every cost"
        if first_layer.counted
        else "it is left out of bit and operation counts, but not of the memory"
    )
    steps_text = "T1, or a step a frame where frames differ," if bits.time_steps is None else f"T{bits.time_steps}"
    bits_text = f"are fixed at w{bits.weight_bits} s{bits.spike_bits} {steps_text} in every plan"
    name = next(iter(plan.layers))
    if any(last_rule(settings.space.layers, name, number) is not None for number in NUMBERS):
        bits_text = f"are what [[layers]] let {name!r} have"
    return (
        f"The first layer sees the signed network input: {'unless it keeps 32 bits, ' if plan.unquantized else ''}"
        f"its bits {bits_text}, and {counting_text}."
    )
