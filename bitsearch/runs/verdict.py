"""Whether what was searched is better than uniform bits: one answer for terminal, page, model card and JSON.

Both plans were chosen on validation, each the best of several, so that their validation scores are too good by
unlike amounts. What is said of them is said of the test split, which had no part in the choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitsearch.plan import BitPlan
from bitsearch.runs.paired import PairedDifference, row_difference, rows_difference
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.plan_names import is_uniform, kind, name
from bitsearch.score import Score
from bitsearch.text import cost, measured_text, points


@dataclass(frozen=True)
class Verdict:
    """The chosen plan beside the best plan within the budget of another kind: uniform, searched, another method's."""

    metric: str
    """Of the costs that are compared."""
    chosen: BitPlan
    rival: BitPlan | None
    chosen_from: int
    """Plans of the chosen one's kind within the budget, of which it is the best on validation."""
    rival_from: int
    difference: PairedDifference | None
    """Chosen minus rival on the test split; None where it is not known which samples they got right."""
    rival_kind: str
    """Of the rival, or of what there is none of."""
    over_budget: bool
    """True if there are plans of that kind, all of them over the budget."""
    confirmed: bool = False
    """True if the difference is of trainings with further seeds, which had no part in the choice."""

    @property
    def same_plan(self) -> bool:
        """True if both plans have the same bits in every layer: they differ by their training alone."""
        return self.rival is not None and self.chosen.layers == self.rival.layers

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        winner = f"{'An' if kind(self.chosen) == 'adaptive' else 'A'} {kind(self.chosen)} plan"
        if self.rival is None:
            return f"{winner} was chosen, with nothing beside it"
        if self.same_plan:
            return "The same plan"
        if self.chosen.accuracy_goal is not None:
            return f"{winner} is the cheapest that keeps the {self.chosen.measured.score.name} goal"
        if self.difference is None:
            return f"{winner} is ahead on validation"
        if not self.difference.is_shown:
            samples = self.difference.samples
            seeds = f" and {self.difference.seeds} seeds" if self.difference.seeds > 1 else ""
            return f"No difference that {'the' if samples is None else f'{samples:,}'} test samples{seeds} can show"
        if self.difference.low > 0:
            return f"{winner} won"
        return f"The best {self.rival_kind} plan is better on the test split"

    @property
    def explanation(self) -> str:
        """The numbers behind it; follows the headline and a colon."""
        chosen, rival = self.chosen, self.rival
        validation = measured_text(chosen, "validation")
        if rival is None:
            absence = "met the budget" if self.over_budget else "was trained"
            return f"{name(chosen)} has {validation} on validation. No {self.rival_kind} plan {absence}."
        if self.same_plan:
            return (
                f"{name(chosen)} and {name(rival)}, the best {self.rival_kind} plan, have the same bits everywhere. "
                f"Their {_plural(chosen)}, {_accuracies(chosen)} and {_accuracies(rival)}, differ by training alone."
            )
        rule = "the best on validation" if chosen.accuracy_goal is None else "the cheapest"
        limit = "budget" if chosen.accuracy_goal is None else "goal"
        rival_rule = "the best" if chosen.accuracy_goal is None else "the cheapest"
        sides = (
            f"{name(chosen)}, {rule} of {_count(self.chosen_from, kind(chosen), limit)}, has "
            f"{_accuracies(chosen)}; {name(rival)}, {rival_rule} of "
            f"{_count(self.rival_from, self.rival_kind, limit)}, has {_accuracies(rival)}."
        )
        costs = (
            f"They cost {cost(self.metric, chosen.costs[self.metric], 4)} and "
            f"{cost(self.metric, rival.costs[self.metric], 4)}."
        )
        if self.difference is None:
            if chosen.measured.test is None:
                return (
                    f"{sides} {costs} No test split was measured: both are what the plans were chosen by, and say "
                    "nothing of chance."
                )
            missing = (
                "Which test samples each got right" if chosen.score is None else "Each one's score of single samples"
            )
            return f"{sides} {costs} {missing} is not recorded, so nothing is said of chance."
        difference = self.difference
        score = chosen.measured.score
        side = ("above", "below") if score.direction == "up" else ("better than", "worse than")
        word = side[0] if difference.difference > 0 else side[1]
        distance = f"{points(difference.difference, score)} {word}" if difference.difference else "equal to"
        interval = f"{_signed(difference.low, score)} to {_signed(difference.high, score)}"
        interval += " points" if score.share else f" {score.unit}".rstrip()
        where = "On the test split"
        if self.confirmed:
            seeds = f"{difference.seeds} further seed{'' if difference.seeds == 1 else 's'}"
            where = f"Both trained anew with {seeds}, on the test split"
        first, second = (f"trial {plan.provenance.trial}" for plan in (chosen, rival))
        return f"{sides} {where} {first} is {distance} {second} (95 % interval {interval}). {costs}"

    @property
    def text(self) -> str:
        """Both, as one line; ``print`` shows it too."""
        return f"{self.headline}: {self.explanation}"

    def __str__(self) -> str:
        return self.text

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        difference = self.difference
        return {
            "headline": self.headline,
            "explanation": self.explanation,
            "chosen_trial": self.chosen.provenance.trial,
            "rival_trial": None if self.rival is None else self.rival.provenance.trial,
            "chosen_from": self.chosen_from,
            "rival_from": self.rival_from,
            "test_difference": None if difference is None else vars(difference),
            "confirmed": self.confirmed,
        }


def judge(
    plans: Sequence[BitPlan],
    chosen: BitPlan,
    metric: str,
    rows: Mapping[int, NDArray[Any]] | None = None,
    *,
    by_method: bool = False,
    confirmed: Mapping[int, Mapping[int, NDArray[Any]]] | None = None,
) -> Verdict:
    """Set the chosen plan beside the best of the other kind.

    Args:
        plans: all of the run.
        chosen: the best of them within the budget.
        metric: the front's axis.
        rows: by trial, what :func:`bitsearch.train.evaluate.score_row` says of the test split.
        by_method: True where methods were compared: a plan of any other method is of another kind.
        confirmed: as ``rows``, by trial and seed, of the plans that were trained with further seeds: where both have
            been, these are compared.
    """

    def is_alike(plan: BitPlan) -> bool:
        if by_method:
            return plan.provenance.method == chosen.provenance.method
        return is_uniform(plan) == is_uniform(chosen)

    feasible = [plan for plan in plans if plan.met and plan.measured.validation is not None]
    opposites = [plan for plan in plans if not is_alike(plan)]
    rival = best_plan(opposites, metric)
    kinds = {kind(plan) for plan in opposites}
    usual = "other" if by_method else "searched" if is_uniform(chosen) else "uniform"
    trials = [] if rival is None else [chosen.provenance.trial, rival.provenance.trial]
    over_seeds = _over_seeds([(confirmed or {}).get(trial, {}) for trial in trials if trial is not None], chosen)
    measured = [row for trial in trials if trial is not None and (row := (rows or {}).get(trial)) is not None]
    return Verdict(
        metric=metric,
        chosen=chosen,
        rival=rival,
        chosen_from=sum(is_alike(plan) for plan in feasible),
        rival_from=sum(not is_alike(plan) for plan in feasible),
        difference=over_seeds
        or (row_difference(measured[0], measured[1], chosen.measured.score) if len(measured) == 2 else None),
        rival_kind=next(iter(kinds)) if len(kinds) == 1 else usual,
        over_budget=bool(opposites),
        confirmed=over_seeds is not None,
    )


def _over_seeds(sides: Sequence[Mapping[int, NDArray[Any]]], chosen: BitPlan) -> PairedDifference | None:
    """Of two plans' trainings with further seeds, over those that both have; None where there is none."""
    if len(sides) < 2:
        return None
    seeds = sorted(sides[0].keys() & sides[1].keys())
    if not seeds:
        return None
    first, second = (np.stack([side[seed] for seed in seeds]) for side in sides)
    return rows_difference(first, second, chosen.measured.score)


def _accuracies(plan: BitPlan) -> str:
    validation = f"{measured_text(plan, 'validation')} on validation"
    return validation if plan.measured.test is None else f"{validation} and {measured_text(plan, 'test')} on test"


def _count(plans: int, kind_name: str, within: str) -> str:
    return f"{plans} {kind_name} plan{'' if plans == 1 else 's'} within the {within}"


def _plural(plan: BitPlan) -> str:
    return "accuracies" if plan.score is None else "scores"


def _signed(difference: float, score: Score) -> str:
    return (f"{100 * difference:+.2f}" if score.share else f"{difference:+.4g}").replace("-", "\N{MINUS SIGN}")
