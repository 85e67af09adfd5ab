"""`multi_label`: which labels of a fixed set hold; any number of them may, or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tunewright.tasks.base import SomeOf, Unfit
from tunewright.tasks.classify import listed
from tunewright.tasks.example import Conversation
from tunewright.tasks.measures import LABEL, Ratio, f1

_HOLDS = {1: True, 0: False, "1": True, "0": False, "true": True, "false": False, "": False}
"""What a column of a label may say; JSON's own true and false are 1 and 0 to Python."""


class UnknownLabels(Unfit):
    """An answer has labels that the task lacks."""

    def __init__(self, labels: Sequence[str]):
        self.labels = labels
        named = ", ".join(f"'{label[:60]}'" for label in labels)
        super().__init__(f"{named} {'is' if len(labels) == 1 else 'are'} none of the labels")


class MultiLabelTask(Conversation):
    """Say which labels hold.

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
        """This task: a list begins with a bracket, which no tokenizer joins with what stands before it."""
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
            answer: such a list in any order, or an object that says of each label whether it holds (0, 1, true, false).

        Raises:
            UnknownLabels: it has labels that the task lacks.
            Unfit: it is neither.
        """
        return self.written_out(self.said(answer))

    def said(self, answer: str) -> list[str]:
        """The labels that an answer names, as it names them, known or not; raises `Unfit` as `canonical`."""
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            value = None
        match value:
            case list():
                if not all(isinstance(label, (str, int)) and not isinstance(label, bool) for label in value):
                    raise Unfit("a label of the list is no text")
                return [str(label) for label in value]
            case dict():
                return _held(value)
        raise Unfit("it is no JSON list of labels; for texts see data.separator")

    def written_out(self, labels: Iterable[str]) -> str:
        """The canonical answer that has these labels.

        Raises:
            UnknownLabels: the task lacks some.
        """
        given = set(labels)
        if unknown := sorted(given - self.labels.keys()):
            raise UnknownLabels(unknown)
        kept = [label for label in self.labels if label in given]
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:  # noqa: ARG002 (the protocol)
        """What an answer is worth: the F1 of its labels; whether the list is right as a whole; and the F1 of each label
        that holds or is given.

        Args:
            gold: the labels that hold, in canonical form.
            answer: labels in canonical form; anything else counts as none.
        """
        right, found = Counter(labels_in(gold)), Counter(labels_in(answer))
        measured = {self.primary_metric: f1(right, found), "exact match": Ratio(float(gold == answer), 1)}
        for label in self.labels:
            if right[label] or found[label]:
                measured[f"{LABEL}{label}"] = Ratio(2.0 * min(right[label], found[label]), right[label] + found[label])
        return measured


def labels_in(answer: str) -> list[str]:
    """The labels of an answer in canonical form; none of another text."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    return [label for label in value if isinstance(label, str)] if isinstance(value, list) else []


def _held(columns: Mapping[str, Any]) -> list[str]:
    """The labels that hold, of an object that says it of each."""
    held = []
    for label, said in columns.items():
        key = said.strip().lower() if isinstance(said, str) else said
        if not isinstance(key, (str, int, float)) or key not in _HOLDS:
            raise Unfit(f"of '{label[:60]}' it says {str(said)[:40]!r}, which is neither 0 nor 1")
        if _HOLDS[key]:
            held.append(label)
    return held
