"""Data whose rows have several labels each: what is counted, what a cut is stratified by, and how a file shows it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import OneOf, SomeOf, Unfit, labels_of
from tunewright.tasks.multi_label import labels_in

SEPARATORS = (";", "|", ",")
"""That are tried, in this order, on a column of texts."""


def counted(task: Task | None, answer: str) -> Sequence[str]:
    """What is counted of an answer: itself, or each of the several labels that it names, known or not."""
    if not isinstance(task, MultiLabelTask):
        return (answer,)
    try:
        return list(dict.fromkeys(task.said(answer)))
    except Unfit:
        return ()


def held(task: MultiLabelTask, examples: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """Whether each label holds, [examples, labels]."""
    labels = list(task.labels)
    sets = (set(labels_in(example.answer)) for example in examples)
    return np.array([[label in each for label in labels] for each in sets], bool)


def unknown_labels(task: Task, answer: str) -> list[str]:
    """The labels of an answer that the task lacks; none where answers are written."""
    known = labels_of(task.constraint)
    return [label for label in counted(task, answer) if label not in known] if known else []


def stratum_of(task: Task, examples: Iterable[Example]) -> Callable[[Example], str]:
    """What a cut of some examples is stratified by: the answer, where it is one label; of several labels the rarest, so
    that each comes to both sides; else nothing.

    A row's rarest label is what iterative stratification begins with (Sechidis et al. 2011).
    """
    if isinstance(task.constraint, OneOf):
        return lambda example: example.answer
    if not isinstance(task.constraint, SomeOf):
        return lambda _: ""
    counts = Counter(label for example in examples for label in labels_in(example.answer))
    return lambda example: min(labels_in(example.answer), key=lambda label: (counts[label], label), default="")


def respelled(task: Task | None, answer: str, spellings: Mapping[str, str]) -> str:
    """An answer with each label in its preferred spelling; see `tunewright.data.checks.labels.preferred_spellings`."""
    if not isinstance(task, MultiLabelTask):
        return spellings.get(answer, answer)
    labels = counted(task, answer)
    if all(spellings.get(label, label) == label for label in labels):
        return answer
    return json.dumps(list(dict.fromkeys(spellings.get(label, label) for label in labels)), ensure_ascii=False)


def guess_labels(answers: Sequence[Any], most: int) -> tuple[list[str], str | None] | None:
    """(the labels, what separates them in a text), where answers look like several labels a row; None elsewhere.

    They do where all are lists of texts, as such or as JSON; or where all are texts that fall into parts, of which
    there are fewer than different texts, and each of which comes again.

    Args:
        most: labels that there may be.
    """
    lists = [_list(answer) for answer in answers]
    if all(each is not None for each in lists):
        return _fits([each or [] for each in lists], most, None)
    if not all(isinstance(answer, str) for answer in answers):
        return None
    for separator in SEPARATORS:
        parts = [[part.strip() for part in answer.split(separator) if part.strip()] for answer in answers]
        alone = len({part for each in parts for part in each}) < len({answer.strip() for answer in answers})
        if alone and (found := _fits(parts, most, separator)):
            return found
    return None


def _fits(parts: Sequence[Sequence[str]], most: int, separator: str | None) -> tuple[list[str], str | None] | None:
    counts = Counter(part for each in parts for part in each)
    if not 2 <= len(counts) <= min(most, len(parts) / 2):
        return None
    if separator and min(counts.values()) < 2:
        return None  # sentences have commas too
    return sorted(counts), separator


def _list(answer: Any) -> list[str] | None:
    """A list of texts, or one that stands as JSON in a text."""
    if isinstance(answer, str) and answer.lstrip().startswith("["):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return None
    if not isinstance(answer, list) or not all(isinstance(each, str) for each in answer):
        return None
    return answer
