"""How an answer of each form is shown, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, OneOf, SomeOf, Unfit, labels_of
from tunewright.tasks.multi_label import labels_in

_KEYS = "123456789abcdefghijkmopqrstvwyz"
"""Of labels, in their order; the other letters do something (see static/review.js)."""
NO_LABEL = "(none)"
"""What stands for the answer that no label holds."""
FILTERED_FROM = 13
"""Labels from which a list is easier searched than read."""


@dataclass(frozen=True)
class Label:
    """One of a fixed set of answers."""

    name: str
    means: str
    key: str
    """That gives it; empty where there are more labels than keys."""


class AnswerForm:
    """Args:
    task: whose answers they are.
    means: what labels mean, where there are any.
    """

    def __init__(self, task: Task, means: Mapping[str, str]):
        self._task = task
        self.is_json = isinstance(task.constraint, JsonRecord)
        names = task.constraint.answers if isinstance(task.constraint, OneOf) else ()
        keys = [*_KEYS, *[""] * len(names)]
        self.labels = [Label(name, means.get(name, ""), key) for name, key in zip(names, keys, strict=False)]
        """Empty where answers are written."""
        self.several = labels_of(task.constraint) if isinstance(task.constraint, SomeOf) else []
        """The labels of which an answer has some, a line each; empty of other tasks."""
        self.filtered = len(names) >= FILTERED_FROM

    def shown(self, answer: str) -> str:
        """An answer as people read it: records with a line for each field, several labels with a line each."""
        if self.several:
            return "\n".join(labels_in(answer)) or NO_LABEL
        if self.is_json:
            try:
                return json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
            except (ValueError, RecursionError):
                pass  # shown as it was answered
        return answer

    def read(self, written: str) -> str:
        """What was written, in canonical form.

        Raises:
            Unfit: it is no answer of the task.
        """
        if self.several:
            # A browser ends a line with CR and LF; U+2028 and its like may stand in a label.
            lines = [line.strip(" \t\r") for line in written.split("\n")]
            written = json.dumps([line for line in lines if line not in ("", NO_LABEL)], ensure_ascii=False)
        answer = self._task.canonical(written)
        if not answer.strip():
            raise Unfit("it is empty")
        return answer

    def same(self, answer: str, other: str) -> bool:
        """Whether two answers say the same, however they are written."""
        try:
            return self._task.canonical(answer) == self._task.canonical(other)
        except Unfit:
            return False
