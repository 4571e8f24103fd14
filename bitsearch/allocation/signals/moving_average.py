"""Exponential moving averages, of numbers and of tensors."""

from typing import TypeVar

from torch import Tensor

_Value = TypeVar("_Value", float, Tensor)


def moving_average(past: _Value | None, new: _Value, past_weight: float) -> _Value:
    """``past_weight``·past + (1 − ``past_weight``)·new; ``new`` itself where nothing is past.

    >>> moving_average(1.0, 2.0, past_weight=0.75)
    1.25
    """
    return new if past is None else past_weight * past + (1 - past_weight) * new
