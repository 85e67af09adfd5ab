"""`multi_label`: any number of labels of a fixed set, or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tunewright.tasks.base import SomeOf, Unfit
from tunewright.tasks.classify import listed
from tunewright.tasks.example import Conversation
from tunewright.tasks.measures import LABEL, Ratio, f1

_FLAGS = {1: True, 0: False, "1": True, "0": False, "true": True, "false": False, "": False}
"""The values that a label's column may have. JSON's true and false equal 1 and 0 in Python."""


class UnknownLabels(Unfit):
    """An answer has labels that the task lacks."""

    def __init__(self, labels: Sequence[str]):
        self.labels = labels
        named = ", ".join(f"'{label[:60]}'" for label in labels)
        super().__init__(f"{named} {'is' if len(labels) == 1 else 'are'} none of the labels")


class MultiLabelTask(Conversation):
    """Choose the labels that apply to a text.

    Args:
        instruction: the system prompt; `{labels}` in it stands for the label list.
        labels: each label with a one-line description (may be empty).
    """

    kind = "multi_label"
    primary_metric = "micro-F1"

    def __init__(self, instruction: str, labels: Mapping[str, str]):
        self.labels = dict(labels)
        super().__init__(instruction.replace("{labels}", listed(labels.items())), "")

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> MultiLabelTask:  # noqa: ARG002 (the protocol)
        """This task unchanged: a list begins with a bracket, which no tokenizer joins with the text before it."""
        return self

    @property
    def constraint(self) -> SomeOf:
        return SomeOf(tuple(self.labels))

    @property
    def summary(self) -> str:
        return f"any of {len(self.labels)} labels"

    def claim(self, share: str) -> str:
        return f"reaches a micro-F1 of {share}"

    @property
    def answers(self) -> list[str]:
        """Empty: any subset of the labels is an answer."""
        return []

    def canonical(self, answer: str) -> str:
        """A JSON list of the labels, each once and in the spec's order.

        Args:
            answer: such a list in any order, or an object with a flag for each label (0, 1, true, false).

        Raises:
            UnknownLabels: it has labels that the task lacks.
            Unfit: it is neither.
        """
        return self.written_out(self.parsed(answer))

    def parsed(self, answer: str) -> list[str]:
        """The labels in an answer, in its order, known to the task or not.

        Raises:
            Unfit: see `canonical`.
        """
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            value = None
        match value:
            case list():
                if not all(isinstance(label, (str, int)) and not isinstance(label, bool) for label in value):
                    raise Unfit("a label of the list is not text")
                return [str(label) for label in value]
            case dict():
                return _flagged(value)
        raise Unfit("it is not a list of labels; for texts see data.separator")

    def written_out(self, labels: Iterable[str]) -> str:
        """The canonical answer with these labels.

        Raises:
            UnknownLabels: the task lacks some.
        """
        given = set(labels)
        if unknown := sorted(given - self.labels.keys()):
            raise UnknownLabels(unknown)
        kept = [label for label in self.labels if label in given]
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:  # noqa: ARG002 (the protocol)
        """The scores of an answer: the F1 of its labels, whether the whole list is right, and the F1 of each label that
        is right or given.

        Args:
            gold: the right labels, in canonical form.
            answer: labels in canonical form; any other text counts as no labels, and as wrong.
        """
        right, given = Counter(labels_in(gold)), Counter(labels_in(answer))
        is_read = bool(given) or answer == self.written_out(())
        scores = {
            self.primary_metric: f1(right, given, is_read=is_read),
            "exact match": Ratio(float(gold == answer), 1),
        }
        for label in self.labels:
            if right[label] or given[label]:
                scores[f"{LABEL}{label}"] = Ratio(2.0 * min(right[label], given[label]), right[label] + given[label])
        return scores


def labels_in(answer: str) -> list[str]:
    """The labels of an answer in canonical form; none for any other text."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    return [label for label in value if isinstance(label, str)] if isinstance(value, list) else []


def _flagged(columns: Mapping[str, Any]) -> list[str]:
    """The labels with a true flag in an object of flags."""
    labels = []
    for label, value in columns.items():
        flag = value.strip().lower() if isinstance(value, str) else value
        if not isinstance(flag, (str, int, float)) or flag not in _FLAGS:
            raise Unfit(f"the value of '{label[:60]}' is {str(value)[:40]!r}, which is neither 0 nor 1")
        if _FLAGS[flag]:
            labels.append(label)
    return labels
