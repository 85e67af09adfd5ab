"""Data whose rows have several labels each: counting and stratifying by labels, and recognising them in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.data.guess_values import NEARLY_ALL, filled, most
from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import OneOf, SomeOf, Unfit, labels_of
from tunewright.tasks.multi_label import labels_in

SEPARATORS = (";", "|", ",")
"""Separators to try, in this order, on a column of texts."""


def counted(task: Task | None, answer: str) -> Sequence[str]:
    """The labels to count for an answer: the answer itself, or each of the labels that it names, known or not."""
    if not isinstance(task, MultiLabelTask):
        return (answer,)
    try:
        return list(dict.fromkeys(task.parsed(answer)))
    except Unfit:
        return ()


def held(task: MultiLabelTask, examples: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """Whether each example has each label, [examples, labels]."""
    labels = list(task.labels)
    label_sets = (set(labels_in(example.answer)) for example in examples)
    return np.array([[label in label_set for label in labels] for label_set in label_sets], bool)


def unknown_labels(task: Task, answer: str) -> list[str]:
    """The labels of an answer that the task lacks; none where the task has no fixed labels."""
    known = labels_of(task.constraint)
    return [label for label in counted(task, answer) if label not in known] if known else []


def stratum_of(task: Task, examples: Iterable[Example]) -> Callable[[Example], str]:
    """A function from an example to the stratum by which a cut of `examples` is stratified.

    The stratum is the answer where it is one label, the rarest label where a row has several, so that each label
    comes to both sides, and else nothing. Iterative stratification too begins with a row's rarest label (Sechidis et
    al. 2011).
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
    for separator in SEPARATORS:
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
