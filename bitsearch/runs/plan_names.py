"""What a plan is called in sentences, tables and figures."""

from bitsearch.plan import BitPlan
from bitsearch.text import plotly_text, shared_widths, shorten


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
