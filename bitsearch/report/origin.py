"""Where the results come from: what was asked for, of which version, with which seed."""

from bitsearch.cost.budget import parse_request
from bitsearch.errors import InputError
from bitsearch.report.format import cost, title
from bitsearch.search.run_folder import RunSettings


def facts(settings: RunSettings) -> dict[str, str]:
    """What it takes to run the search again."""
    space = settings.space
    return {
        "Command": settings.command,
        "Seed": str(settings.seed),
        "Split seed": f"{space.split_seed} (which samples are for training, validation and test)",
        "Versions": f"bitsearch {settings.bitsearch}, torch {settings.torch}",
        "Device": f"{settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}",
        "Space": f"{space.name}: network {space.network}, data {space.data}",
        "Training": (
            f"{space.training.epochs} epochs a trial, {space.training.full_precision_epochs} in full precision, "
            f"batches of {space.training.batch_size}"
        ),
        "Outer loop": f"{space.search.sampler}, {space.search.trials} adaptive trials asked for",
    }


def baseline_words(settings: RunSettings) -> str:
    """What the budget asked for stood for, in one or two sentences."""
    metric, limit = settings.metric, cost(settings.metric, settings.limit, 4)
    declared = settings.space.baseline
    bits = (
        f"w{declared.weight_bits} s{declared.spike_bits} T{declared.time_steps} "
        f"({declared.weight_bits}-bit weights, {declared.spike_bits}-bit spikes, {declared.time_steps} time steps)"
    )
    try:
        ratio, value = parse_request(settings.budget)
    except InputError:
        ratio, value = False, 0.0
    known = settings.baseline_costs.get(metric)
    costs = f"The declared baseline is {bits} on every layer, the first one included"
    if known is not None:
        costs += f"; its {title(metric)} is {cost(metric, known, 4)}"
    if ratio and known is not None:
        return f"{costs}. A budget of {settings.budget} is that divided by {value:g}: at most {limit}."
    return f"{costs}. The budget was given as {settings.budget}: at most {limit}."


def first_layer_words(settings: RunSettings) -> str:
    """How the first layer is treated."""
    first = settings.space.first_layer
    counted = (
        "it counts in every cost"
        if first.counted
        else "it is left out of bit and operation counts, but not of the memory"
    )
    return (
        f"The first layer sees the signed network input: its bits are fixed at w{first.weight_bits} "
        f"s{first.spike_bits} T{first.time_steps} in every plan, and {counted}."
    )
