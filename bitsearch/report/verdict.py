"""Sentences on the chosen plan, and on the best plan of the other kind."""

from collections.abc import Sequence

from bitsearch.plan import BitPlan
from bitsearch.runs.pareto import best_plan, validation_accuracy
from bitsearch.text import accuracy, cost, plotly_text, points, shared_widths, shorten


def is_uniform(plan: BitPlan) -> bool:
    """True for a uniform baseline, which has the same bits on every searched layer."""
    return plan.provenance.method == "uniform"


def kind(plan: BitPlan) -> str:
    """The plan's method as text: ``uniform``, ``adaptive``, ``local binary``."""
    return plan.provenance.method.replace("_", " ")


def name(plan: BitPlan) -> str:
    """``trial 7``, with the shared widths of a uniform plan: ``trial 12 (w4 s4 T1)``."""
    shared_bits = shared_widths(plan) if is_uniform(plan) else None
    trial = f"trial {plan.provenance.trial}" if plan.provenance.trial is not None else "a plan without a trial number"
    return f"{trial} ({shared_bits})" if shared_bits else trial


def hover_name(plan: BitPlan, several_seeds: bool) -> str:
    """Trial, method, seed if ``several_seeds``, and "over the budget" if it is not met; escaped for plotly."""
    parts = [name(plan), kind(plan)] + ([f"seed {plan.provenance.seed}"] if several_seeds else [])
    return plotly_text(shorten(", ".join(parts + ([] if plan.met else ["over the budget"])), 120))


def rival(plans: Sequence[BitPlan], chosen_plan: BitPlan, metric: str) -> BitPlan | None:
    """The best plan within the budget of the other kind: uniform if the chosen plan is not, and the reverse."""
    return best_plan([plan for plan in plans if is_uniform(plan) != is_uniform(chosen_plan)], metric)


def headline(chosen_plan: BitPlan) -> str:
    """``An adaptive plan won`` or ``A uniform plan won``."""
    return f"{'An' if kind(chosen_plan) == 'adaptive' else 'A'} {kind(chosen_plan)} plan won"


def reason(plans: Sequence[BitPlan], chosen_plan: BitPlan, metric: str) -> str:
    """The chosen plan's advantage over the best plan of the other kind; follows the headline and a colon."""
    result_text = f"{name(chosen_plan)} has {accuracy(chosen_plan.accuracy.validation)} validation accuracy"
    rival_plan = rival(plans, chosen_plan, metric)
    rival_kinds = {kind(plan) for plan in plans if is_uniform(plan) != is_uniform(chosen_plan)}
    if rival_plan is None:
        default_kind = "searched" if is_uniform(chosen_plan) else "uniform"
        rival_kind = next(iter(rival_kinds)) if len(rival_kinds) == 1 else default_kind
        if rival_kinds:
            return f"{result_text}. No {rival_kind} plan met the budget."
        return f"{result_text}. This run has no {rival_kind} plan."
    accuracy_gain = validation_accuracy(chosen_plan) - validation_accuracy(rival_plan)
    rival_text = f"the best {kind(rival_plan)} plan within the budget, {name(rival_plan)}"
    if accuracy_gain > 0:
        rival_accuracy = accuracy(rival_plan.accuracy.validation)
        return f"{result_text}, {points(accuracy_gain)} above {rival_text} with {rival_accuracy}."
    cost_text = f"{cost(metric, chosen_plan.costs[metric], 4)} against {cost(metric, rival_plan.costs[metric], 4)}"
    if chosen_plan.costs[metric] < rival_plan.costs[metric]:
        return f"{result_text}, just as {rival_text}, but costs less: {cost_text}."
    cost_text = cost(metric, chosen_plan.costs[metric], 4)
    return f"{result_text} at {cost_text}; {rival_text}, equals it in both and came later."
