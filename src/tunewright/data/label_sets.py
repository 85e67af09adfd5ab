"""Data whose rows have several labels each: counting, stratifying and respelling by labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import OneOf, SomeOf, Unfit, labels_of
from tunewright.tasks.multi_label import labels_in


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
