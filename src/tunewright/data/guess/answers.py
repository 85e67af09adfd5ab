"""What the answers of a column are: labels, several labels a row, records or texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunewright.data.guess.schema import guess_schema
from tunewright.data.guess.values import NEARLY_ALL, filled, most
from tunewright.data.readers.forms import label_text

MAX_LABELS = 300
_SEPARATORS = (";", "|", ",")
"""Separators to try, in this order, on a column of texts."""


def task_of(answers: Sequence[Any]) -> tuple[str, Any]:
    """(the kind of task, its details: labels, labels with their separator where a row has several, or the schema)."""
    given = filled(answers)
    if records := records_in(given):
        return "extract", guess_schema(records)
    if several := guess_labels(answers, MAX_LABELS):
        return "multi_label", several
    return ("classify", sorted(labels)) if (labels := repeated(given)) else ("generate", None)


def record_in(value: Any) -> dict[str, Any] | None:
    """An object, from a dict or from JSON; None where the value is neither."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def records_in(values: Sequence[Any]) -> list[dict[str, Any]]:
    """The records, if nearly all values are some and not all are empty; else none."""
    found = [record for value in values if (record := record_in(value)) is not None]
    return found if any(found) and len(found) >= NEARLY_ALL * len(values) else []


def repeated(values: Sequence[Any]) -> set[str]:
    """The labels, if nearly all values can be some, and they are few enough and occur again; else none."""
    labels = most(lambda value: isinstance(value, (str, int, float)), values)
    different = {label_text(label) or "" for label in labels}
    return different if 2 <= len(different) <= min(MAX_LABELS, len(labels) / 2) else set()


def guess_labels(answers: Sequence[Any], at_most: int) -> tuple[list[str], str | None] | None:
    """(the labels, their separator in a text) where answers look like several labels a row; None elsewhere.

    They do where nearly all are lists of texts, as such or as JSON. They also do where nearly all are texts that a
    separator cuts into parts, some of them into several, there are fewer different parts than different texts, and
    each part occurs again. A few blanks are rows that nobody labelled; more of them are a text of no labels.

    Args:
        at_most: labels that there may be.
    """
    given = filled(answers)
    if lists := most(lambda answer: _list(answer) is not None, given):
        return _fits([_list(answer) or [] for answer in lists], at_most, None)
    texts = most(lambda answer: isinstance(answer, str), given)
    different = {text.strip() for text in texts}
    if len(given) < NEARLY_ALL * len(answers):
        different.add("")
    for separator in _SEPARATORS:
        parts = [[part.strip() for part in text.split(separator) if part.strip()] for text in texts]
        has_several = any(len(each) > 1 for each in parts)
        repeats = len({part for each in parts for part in each}) < len(different)
        if has_several and repeats and (guess := _fits(parts, at_most, separator)):
            return guess
    return None


def _fits(parts: Sequence[Sequence[str]], at_most: int, separator: str | None) -> tuple[list[str], str | None] | None:
    """(the labels, the separator) where the parts of all answers can be labels."""
    counts = Counter(part for each in parts for part in each)
    if not 2 <= len(counts) <= min(at_most, len(parts) / 2):
        return None
    if separator and min(counts.values()) < 2:
        return None  # sentences have commas too
    return sorted(counts), separator


def _list(answer: Any) -> list[str] | None:
    """A list of texts, from a list or from JSON; None where the answer is neither."""
    if isinstance(answer, str) and answer.lstrip().startswith("["):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return None
    if not isinstance(answer, list) or not all(isinstance(each, str) for each in answer):
        return None
    return answer
