"""Where plans that were not trained fall apart: what each budget's plan loses, said with the figure."""

import warnings

from bitsearch.runs.folder import RunFolder
from bitsearch.runs.sweep import sweep_plans
from bitsearch.score import Score
from bitsearch.text import score_text

MOST_LOST = 0.02
"""Of the score of full precision; a plan that loses more is warned of."""


def warn_of_damage(folder: RunFolder) -> None:
    """Warn of every budget whose best plan loses more than :data:`MOST_LOST` against full precision on validation."""
    settings = folder.settings
    reference, score = settings.full_precision.validation, settings.score
    if reference is None:
        return
    plans = [(stop.requested, plan) for stop, plan in sweep_plans(folder)] or [(settings.request, folder.chosen())]
    for request, plan in plans:
        value = None if plan is None else plan.measured.validation
        if value is not None and lost_share(reference, value, score) > MOST_LOST:
            warnings.warn(
                f"allocate: at {request} the best plan has {score_text(value, score)} {score.name} on validation, full "
                f"precision {score_text(reference, score)}; train it on with --fine-tune EPOCHS, or search with "
                "`bitsearch run`",
                stacklevel=2,
            )


def lost_share(reference: float, value: float, score: Score) -> float:
    """What a score has lost, as a share of the reference's."""
    return (score.rank(reference) - score.rank(value)) / max(abs(reference), 1e-12)
