"""Fronts of points (cost, accuracy), and rank correlations."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from bitsearch.pareto import ParetoFront

Point = tuple[float, float]
"""(cost, accuracy)."""


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both, cheapest first."""
    found: ParetoFront[None] = ParetoFront()
    for cost, accuracy in points:
        found.add(cost, accuracy, None)
    return [(cost, accuracy) for cost, accuracy, _ in found.points]


def spread_out() -> Iterator[float]:
    """0, 1, ½, ¼, ¾, ⅛, …: ever finer, evenly spread numbers from 0 to 1 (van der Corput's sequence)."""
    yield from (0.0, 1.0)
    count = 1
    while True:
        value, scale, rest = 0.0, 0.5, count
        while rest:
            value += scale * (rest % 2)
            rest, scale = rest // 2, scale / 2
        yield value
        count += 1


def rank_correlation(left: pd.Series, right: pd.Series) -> float:
    """Spearman's; NaN where either does not vary."""
    if left.nunique() < 2 or right.nunique() < 2:
        return float("nan")
    return float(left.rank().corr(right.rank()))


def at_equal_cost(left: pd.Series, right: pd.Series, cost: pd.Series, parts: int) -> float:
    """The mean of Spearman's within ``parts`` equally large groups of nearly equal cost.

    Over all costs any signal that grows with the bits looks good; this is what decides at a budget.
    """
    groups = pd.qcut(cost.rank(method="first"), parts, labels=False)
    found = pd.Series([rank_correlation(left[groups == group], right[groups == group]) for group in range(parts)])
    return float(found.mean())


def spread(values: Sequence[float] | pd.Series, factor: float = 1.0, digits: int = 2) -> str:
    """``mean ± standard deviation`` (of a sample), without the second for one value."""
    series = factor * pd.Series(values, dtype=float).dropna()
    if series.empty:
        return "—"
    mean = f"{series.mean():.{digits}f}"
    return mean if len(series) < 2 else f"{mean} ± {series.std():.{digits}f}"
