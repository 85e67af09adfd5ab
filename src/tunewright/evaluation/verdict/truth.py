"""Whose answers the tests take as right: people's, or those that an API gave in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.data.readers.forms import LOGGED
from tunewright.evaluation.evidence import Record
from tunewright.tasks import Example

_NAMED = 3
"""Most teachers that a sentence names."""


@dataclass(frozen=True)
class Truth:
    """The teachers of one test split."""

    split: str
    count: int
    """Its examples."""
    teachers: dict[str, int]
    """Examples whose right answer is what a model of a log gave, by model; the commonest first."""

    @property
    def reason(self) -> str:
        """What the figures of this split can't show."""
        return (
            f"On {self.split}, {self.whose} gave the answers that count as right. So accuracy means agreement with it: "
            f"its faults count as right, and no model can be shown to be better. To know how good it is, have people "
            f"answer a sample and name that under `data.test`."
        )

    @property
    def whose(self) -> str:
        """The teachers, and of how many examples."""
        taught = sum(self.teachers.values())
        part = "" if taught == self.count else f" (in {taught:,} of {self.count:,} examples)"
        names = list(self.teachers)
        if len(names) > _NAMED:
            names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
        return f"{' and '.join(names)}{part}"


def truths(served: Mapping[str, Sequence[Record]], examples: Mapping[str, Example]) -> list[Truth]:
    """The test splits of which a model gave some of the answers that count as right.

    Args:
        served: the served model's answers, by split.
        examples: the test examples by id.
    """
    found = []
    for split, records in served.items():
        teachers = Counter(teacher for record in records if (teacher := teacher_of(examples[record.id])))
        if teachers:
            found.append(Truth(split, len(records), dict(teachers.most_common())))
    return found


def caveat(found: Sequence[Truth]) -> str:
    """What a reader of the verdict's sentence must know; empty where people gave all answers."""
    if not found:
        return ""
    return f'"Right" means here what {found[0].whose} answered, not what people say.'


def teacher_of(example: Example) -> str | None:
    """The model whose answer the example has; None: no log names one, so it is taken as people's."""
    call = example.meta.extra.get(LOGGED)
    return call.get("model") or call.get("answered_model") if isinstance(call, dict) else None
