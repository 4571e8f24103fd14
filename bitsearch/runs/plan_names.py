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
    if plan.provenance.trial is None:
        return "a plan without a trial number"
    return trial_name(plan.provenance.trial, shared_widths(plan) if is_uniform(plan) else None)


def trial_name(trial: int, shared_bits: object = None) -> str:
    """As :func:`name`, of a trial whose plan is not there yet: the number is Optuna's, as of ``export --trial``."""
    return f"trial {trial}" if shared_bits is None else f"trial {trial} ({shared_bits})"


def full_name(plan: BitPlan) -> str:
    """:func:`name` with the method: ``trial 7, adaptive``."""
    return f"{name(plan)}, {kind(plan)}"


def hover_name(plan: BitPlan, several_seeds: bool) -> str:
    """Trial, method, seed if ``several_seeds``, and "over the budget" if it is not met; escaped for plotly."""
    parts = [full_name(plan)] + ([f"seed {plan.provenance.seed}"] if several_seeds else [])
    return plotly_text(shorten(", ".join(parts + ([] if plan.met else ["over the budget"])), 120))
