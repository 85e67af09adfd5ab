"""Show answers of each form to people, and read their corrections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, OneOf, SomeOf, Unfit, labels_of
from tunewright.tasks.multi_label import labels_in

_KEYS = "123456789abcdefghijkmopqrstvwyz"
"""The keys of labels, in order. The other letters are commands (static/review.js)."""
NO_LABEL = "(none)"
"""The text for the answer that no label holds."""
FILTERED_FROM = 13
"""The number of labels from which the list gets a search field."""


@dataclass(frozen=True)
class Label:
    """One label of a fixed set."""

    name: str
    means: str
    key: str
    """The key that chooses it; empty if there are more labels than keys."""


class AnswerForm:
    """The form of a task's answers.

    Args:
        task: the task.
        means: the description of each label.
    """

    def __init__(self, task: Task, means: Mapping[str, str]):
        self._task = task
        self.is_json = isinstance(task.constraint, JsonRecord)
        names = task.constraint.answers if isinstance(task.constraint, OneOf) else ()
        keys = [*_KEYS, *[""] * len(names)]
        self.labels = [Label(name, means.get(name, ""), key) for name, key in zip(names, keys, strict=False)]
        """The labels to choose from; empty if people write answers."""
        self.several = labels_of(task.constraint) if isinstance(task.constraint, SomeOf) else []
        """The labels of a multi-label task, one a line; empty for other tasks."""
        self.filtered = len(names) >= FILTERED_FROM

    def shown(self, answer: str) -> str:
        """An answer for people: a record with a line per field, several labels with a line each; no answer as it is."""
        if self.several and answer:
            return "\n".join(labels_in(answer)) or NO_LABEL
        if self.is_json:
            try:
                return json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
            except (ValueError, RecursionError):
                pass  # show the answer as it is
        return answer

    def read(self, written: str) -> str:
        """A written answer in canonical form.

        Raises:
            Unfit: it is not an answer of the task.
        """
        if self.several:
            # Browsers end lines with CR and LF, and labels may contain U+2028 and similar characters.
            lines = [line.strip(" \t\r") for line in written.split("\n")]
            written = json.dumps([line for line in lines if line not in ("", NO_LABEL)], ensure_ascii=False)
        return self.fitting(written)

    def fitting(self, answer: str) -> str:
        """A model's answer in canonical form.

        Raises:
            Unfit: it is not an answer of the task.
        """
        canonical = self._task.canonical(answer)
        if not canonical.strip():
            raise Unfit("it is empty")
        return canonical

    def same(self, answer: str, other: str) -> bool:
        """Whether two answers have the same canonical form."""
        try:
            return self._task.canonical(answer) == self._task.canonical(other)
        except Unfit:
            return False
