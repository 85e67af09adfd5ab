"""What holds for a column's values, when a few of them are blank or unlike the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

NEARLY_ALL = 0.95
"""The share of values that must be alike. The others are outliers, which decide nothing about the job."""


def is_blank(value: Any) -> bool:
    """Whether a value is none. In a table, `nan` is what pandas writes in the place of one."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def filled(values: Iterable[Any]) -> list[Any]:
    """The values that are not blank."""
    return [value for value in values if not is_blank(value)]


def most(fits: Callable[[Any], bool], values: Sequence[Any]) -> list[Any]:
    """The values that fit, if there are some and nearly all do; else none."""
    fitting = [value for value in values if fits(value)]
    return fitting if len(fitting) >= NEARLY_ALL * len(values) else []
