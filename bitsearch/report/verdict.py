"""Who won, in plain words."""

from collections.abc import Sequence

from bitsearch.plan import BitPlan
from bitsearch.runs.pareto import best_plan, validation_accuracy
from bitsearch.text import accuracy, cost, plotly_text, points, shared_widths, shorten


def is_uniform(plan: BitPlan) -> bool:
    """True for a baseline that gives every searched layer the same."""
    return plan.provenance.method == "uniform"


def kind(plan: BitPlan) -> str:
    """The method in words: ``uniform``, ``adaptive``, ``local binary``."""
    return plan.provenance.method.replace("_", " ")


def name(plan: BitPlan) -> str:
    """``trial 7``, with the shared widths of a uniform plan: ``trial 12 (w4 s4 T1)``."""
    shared = shared_widths(plan) if is_uniform(plan) else None
    trial = f"trial {plan.provenance.trial}" if plan.provenance.trial is not None else "a plan without a trial number"
    return f"{trial} ({shared})" if shared else trial


def hover_name(plan: BitPlan, several_seeds: bool) -> str:
    """Trial, method, seed where there are several, and whether the budget is met; for plotly."""
    parts = [name(plan), kind(plan)] + ([f"seed {plan.provenance.seed}"] if several_seeds else [])
    return plotly_text(shorten(", ".join(parts + ([] if plan.met else ["over the budget"])), 120))


def rival(plans: Sequence[BitPlan], chosen: BitPlan, metric: str) -> BitPlan | None:
    """The best plan within the budget of the kind that did not win."""
    return best_plan([plan for plan in plans if is_uniform(plan) != is_uniform(chosen)], metric)


def headline(chosen: BitPlan) -> str:
    """``An adaptive plan won`` or ``A uniform plan won``."""
    return f"{'An' if kind(chosen) == 'adaptive' else 'A'} {kind(chosen)} plan won"


def reason(plans: Sequence[BitPlan], chosen: BitPlan, metric: str) -> str:
    """What the winner won by, against the best plan of the other kind; follows the headline and a colon."""
    reached = f"{name(chosen)} has {accuracy(chosen.accuracy.validation)} validation accuracy"
    second = rival(plans, chosen, metric)
    others = {kind(plan) for plan in plans if is_uniform(plan) != is_uniform(chosen)}
    unknown = "searched" if is_uniform(chosen) else "uniform"
    other = kind(second) if second is not None else others.pop() if len(others) == 1 else unknown
    if second is None:
        tried = any(is_uniform(plan) != is_uniform(chosen) for plan in plans)
        return f"{reached}. {f'No {other} plan met the budget' if tried else f'This run has no {other} plan'}."
    lead = validation_accuracy(chosen) - validation_accuracy(second)
    beaten = f"the best {other} plan within the budget, {name(second)}"
    if lead > 0:
        return f"{reached}, {points(lead)} above {beaten} with {accuracy(second.accuracy.validation)}."
    prices = f"{cost(metric, chosen.costs[metric], 4)} against {cost(metric, second.costs[metric], 4)}"
    if chosen.costs[metric] < second.costs[metric]:
        return f"{reached}, just as {beaten}, but costs less: {prices}."
    return f"{reached} at {cost(metric, chosen.costs[metric], 4)}; {beaten}, equals it in both and came later."
