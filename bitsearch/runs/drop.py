"""What the chosen plan of a run with an accuracy goal has lost against full precision."""

from typing import Any

from numpy.typing import NDArray

from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import row_difference, standard_error
from bitsearch.runs.rows import Rows, read_rows
from bitsearch.text import lost_number, points


def drop_text(folder: RunFolder) -> str | None:
    """What the chosen plan of a run with a goal loses, on validation with its error, on test with its interval."""
    settings, plan = folder.settings, folder.chosen()
    reference = settings.full_precision
    if settings.goal is None or reference.validation is None or plan.measured.validation is None:
        return None
    lost = reference.score.rank(reference.validation) - reference.score.rank(plan.measured.validation)
    pair = _rows(folder, read_rows(folder.validation_file))
    score = reference.score
    error = "" if pair is None else f" ± {lost_number(standard_error(*pair), score)}"
    limit = settings.goal.limit(reference.validation, score)
    text = (
        f"max drop {settings.goal.requested}: {lost_number(lost, score)}{error} of at most {points(limit, score)} lost "
        "on validation"
    )
    pair = _rows(folder, read_rows(folder.test_file))
    if pair is None:
        return text
    test = row_difference(*pair, reference.score)
    if test is None:
        return text
    unit = "points" if score.share else score.unit
    difference, low, high = (lost_number(value, score) for value in (test.difference, test.low, test.high))
    return f"{text}; on test {f'{difference} {unit}'.strip()} (95 % interval {_signed(low)} to {_signed(high)})"


def _signed(number: str) -> str:
    return number if number.startswith("-") else f"+{number}"


def _rows(folder: RunFolder, table: Rows) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """What full precision and the chosen plan got right; None where it is not recorded."""
    trial = folder.chosen().provenance.trial
    assert trial is not None
    names = folder.full_precision_weights.stem, folder.weights_file(trial).stem
    return (table[names[0]], table[names[1]]) if set(names) <= set(table) else None
