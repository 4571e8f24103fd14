"""Numbers, bit widths and names as people read them."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bitsearch.cost.metrics import METRICS
from bitsearch.plan import DROP, SCORE_DROP, BitPlan
from bitsearch.score import ACCURACY, Score

MISSING = "—"
SPACE = "\N{NO-BREAK SPACE}"
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_TIME = ("s", "ms", "µs", "ns", "ps")
_ENERGY = ("pJ", "nJ", "µJ", "mJ", "J")
_WITH_AMOUNT = ("bytes", "pJ", "s")
"""Units that amounts are written with."""
HOVER_CHARACTERS, HOVER_LINES = 60, 5
"""Length and number of a text's lines in the box beside the pointer."""
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def score_text(value: float | None, score: Score = ACCURACY) -> str:
    """``98.06 %`` of a share, ``0.0123 s`` of others; a dash where it was not measured."""
    if value is None:
        return MISSING
    if score.share:
        return f"{100 * value:.2f}{SPACE}%"
    return f"{value:.4g}{SPACE}{score.unit}".rstrip()


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation of a sample, 0 of a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def spread(mean: float, deviation: float | None, decimals: int) -> str:
    """Mean and standard deviation to as many decimals; the mean alone where no deviation is known.

    >>> spread(7.989, 0.0054, 2)
    '7.99 ± 0.01'
    """
    return f"{mean:.{decimals}f}" + ("" if deviation is None else f" ± {deviation:.{decimals}f}")


def score_spread(values: Sequence[float], score: Score = ACCURACY) -> str:
    """``98.06 % ± 0.28 %``, mean and standard deviation; a dash where there is none.

    >>> score_spread([0.98, 0.99]).replace(SPACE, " ")
    '98.50 % ± 0.71 %'
    """
    if len(values) < 2:
        return score_text(values[0] if values else None, score)
    mean, deviation = mean_and_deviation(values)
    return f"{score_text(mean, score)}{SPACE}±{SPACE}{score_text(deviation, score)}"


def largest_class(counts: Mapping[str, int]) -> str:
    """The class with the most samples and its share of all, which answering nothing else would get right.

    >>> largest_class({"cat": 3, "dog": 1}).replace(SPACE, " ")
    "'cat', 75.00 %"
    """
    label = max(counts, key=lambda label: counts[label])
    return f"{label!r}, {score_text(counts[label] / sum(counts.values()))}"


def measured_text(plan: BitPlan, split: str) -> str:
    """A plan's score on ``validation`` or ``test``."""
    return score_text(getattr(plan.measured, split), plan.measured.score)


def points(difference: float, score: Score = ACCURACY) -> str:
    """A difference of two scores: ``0.56 points`` of shares, ``0.0123 s`` of others."""
    return f"{100 * abs(difference):.2f} points" if score.share else score_text(abs(difference), score)


def lost_number(difference: float, score: Score) -> str:
    """A signed difference without its unit: percentage points of shares, the score's unit of others."""
    return f"{100 * difference:.2f}" if score.share else f"{difference:.4g}"


def percent(score: Score) -> float:
    """What a score is multiplied by on an axis."""
    return 100.0 if score.share else 1.0


def score_axis(score: Score, split: str = "validation") -> str:
    """Title of an axis or a column: ``Validation accuracy``."""
    return f"{split.capitalize()} {score.name}" + (f" ({score.unit})" if score.unit else "")


def number(value: float, digits: int = 3) -> str:
    """Significant digits and a prefix: ``1.9 M``, ``15.2``."""
    return _prefixed(value, digits, 1000, _DECIMAL)


def unit(metric: str) -> str:
    """The unit of a metric's costs; empty for a metric that this version does not know."""
    return METRICS[metric].unit if metric in METRICS else ""


def title(metric: str) -> str:
    """The metric's title for people."""
    if metric == DROP:
        return "Accuracy below full precision"
    if metric == SCORE_DROP:
        return "Score below full precision"
    return METRICS[metric].title if metric in METRICS else metric


def amount(metric: str, value: float | None, digits: int = 3) -> str:
    """A cost for tables and ticks, without its unit: ``15.2``, ``1.9 M``; bytes, pJ and s keep it: ``5.4 KiB``."""
    if value is None:
        return MISSING
    if metric == DROP:
        return points(value)
    if unit(metric) == "bytes":
        return _prefixed(value, digits, 1024, _BINARY)
    if unit(metric) == "pJ":
        return _prefixed(value, digits, 1000, _ENERGY)
    if unit(metric) == "s":
        return _prefixed(value * 1e12, digits, 1000, _TIME[::-1])
    return number(value, digits)


def column_unit(metric: str) -> str:
    """The unit that the head of a column of :func:`amount` has to name; empty where the amounts keep theirs."""
    return "" if unit(metric) in _WITH_AMOUNT else unit(metric)


def aligned(metric: str, value: float | None) -> str:
    """:func:`amount` padded to three significant digits, ``16.0``, so that a column of numbers lines up."""
    text = amount(metric, value)
    digits, space, prefix = text.partition(SPACE)
    if value is None or "e" in digits or digits == "0" or len(digits.replace(".", "").lstrip("0")) >= 3:
        return text
    point = "" if "." in digits else "."
    missing = 3 - len(digits.replace(".", "").lstrip("0"))
    return f"{digits}{point}{'0' * missing}{space}{prefix}"


def cost(metric: str, value: float | None, digits: int = 3) -> str:
    """A cost with its unit: ``15.2 bits``, ``1.9 M bit operations``, ``5.4 KiB``."""
    text = amount(metric, value, digits)
    return text if value is None or not column_unit(metric) else f"{text} {unit(metric)}"


@dataclass(frozen=True)
class Scale:
    """One unit for all costs of a metric, so that their numbers compare directly."""

    factor: float
    """Costs are divided by it."""
    unit: str

    def amount(self, value: float | None) -> str:
        """A cost in this unit, which is left out: ``5.38``."""
        return MISSING if value is None else f"{value / self.factor:.4g}"

    def spread(self, mean: float, deviation: float | None) -> str:
        """A mean of three significant digits in this unit, with its standard deviation: ``7.99 ± 0.01``."""
        mean = mean / self.factor
        decimals = max(0, 2 - math.floor(math.log10(mean))) if mean > 0 else 0
        return spread(mean, None if deviation is None else deviation / self.factor, decimals)


def scale(metric: str, values: Iterable[float]) -> Scale:
    """The unit in which the median cost has one to three digits before the point: ``KiB``, ``M bit operations``."""
    positive = sorted(value for value in values if value > 0)
    middle = positive[len(positive) // 2] if positive else 1.0
    metric_unit = unit(metric)
    base, units = {
        "bytes": (1024.0, _BINARY),
        "pJ": (1000.0, _ENERGY),
        "s": (1000.0, _TIME[::-1]),
    }.get(metric_unit, (1000.0, tuple(f"{prefix} {metric_unit}".strip() for prefix in _DECIMAL)))
    start = 1e-12 if metric_unit == "s" else 1.0
    power = min(max(math.floor(math.log(middle / start, base) + 1e-9), 0), len(units) - 1)
    return Scale(start * base**power, units[power])


def shared_widths(plan: BitPlan) -> str | None:
    """The allocation that all layers but the first, whose bits are fixed, have in common; None if they differ.

    The last layer of a uniform plan may differ as well, since a hardware target can fix it.
    """
    layers = list(plan.layers.values())
    parts = [layers[1:] or layers] + ([layers[1:-1]] if plan.provenance.method == "uniform" else [])
    for part in parts:
        allocations = {str(layer) for layer in part}
        if len(allocations) == 1:
            return allocations.pop()
    return None


def plotly_text(text: str) -> str:
    """``text`` escaped for plotly, which interprets tags and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plotly_lines(text: str) -> str:
    """``text`` escaped for plotly and broken into lines, so that a box beside the pointer shows the whole of it.

    More than :data:`HOVER_LINES` of them, which no window holds, are cut in their middle.

    >>> plotly_lines("stages.0.blocks.1.conv1")
    'stages.0.blocks.1.conv1'
    """
    text = shorten(text, HOVER_LINES * HOVER_CHARACTERS)
    lines = [text[start : start + HOVER_CHARACTERS] for start in range(0, len(text), HOVER_CHARACTERS)]
    return "<br>".join(map(plotly_text, lines))


def shorten(text: str, max_characters: int) -> str:
    """``text`` cut in its middle to ``max_characters``, since module paths differ at both ends."""
    if len(text) <= max_characters:
        return text
    tail_characters = (max_characters - 1) // 2
    return f"{text[: max_characters - 1 - tail_characters]}…{text[len(text) - tail_characters :]}"


def short_names(names: Sequence[str], max_characters: int) -> list[str]:
    """Names of layers within ``max_characters``, all of them different, as labels in a table or figure.

    Of a longer name the end is kept, which tells layers of one block apart. Names that would look alike are cut in
    their middle instead; those that even then do are numbered.

    >>> short_names(["stem", "stages.0.blocks.1.conv1", "stages.0.blocks.1.conv2"], 12)
    ['stem', '…cks.1.conv1', '…cks.1.conv2']
    """
    ends = [name if len(name) <= max_characters else f"…{name[len(name) - max_characters + 1 :]}" for name in names]
    counts = Counter(ends)
    labels = [shorten(name, max_characters) if counts[end] > 1 else end for name, end in zip(names, ends, strict=True)]
    taken: set[str] = set()
    for index, label in enumerate(labels):
        number = 1
        while labels[index] in taken:
            number += 1
            mark = f"…{number}"
            labels[index] = label[: max_characters - len(mark)] + mark
        taken.add(labels[index])
    return labels


def _prefixed(value: float, digits: int, base: int, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        # 1000 to 1023 of a binary unit take a fourth digit.
        precision = max(digits, 4) if base > 1000 and value >= 999.5 else digits
        rounded = float(f"{value:.{precision}g}")
        if rounded < base or prefix == prefixes[-1]:
            break
        value /= base
    text = f"{rounded:.{precision}g}"
    return f"{text}{SPACE}{prefix}" if prefix else text
