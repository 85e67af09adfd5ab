"""How good teachers are, by people's answers to a random sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.evaluation.statistics.ceiling import right_from_agreement
from tunewright.evaluation.statistics.intervals import Interval, Z, ratio
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.votes import agreement
from tunewright.tasks import Task
from tunewright.tasks.base import OneOf
from tunewright.tasks.measures import Ratio

LEAST_PAIRS = 20
"""With fewer requests that two people answered, their agreement says little."""
_LEAST_OF_LABEL = 5


@dataclass(frozen=True)
class LabelAudit:
    """One label by people's word."""

    label: str
    by_people: int
    """Requests of the sample that teachers were asked about and people call so."""
    recall: Interval | None
    """The share of these that the teachers call so too; None: there are too few."""
    by_teachers: int
    """Requests of the sample that the teachers call so."""
    precision: Interval | None
    """The share of these that people call so too; None: there are too few."""


@dataclass(frozen=True)
class Audit:
    """What the sample says so far."""

    answered: int
    """Requests of the sample that people answered."""
    teachers: dict[str, Interval]
    """The primary metric of each teacher against people's answers, and of all of them together under `together`."""
    compared: dict[str, int]
    """Of the requests that people answered, those that each of these was asked about."""
    labels: list[LabelAudit]
    """Of the labels that teachers most often miss or mean, if answers are labels."""
    pairs: int
    """Requests that two people answered, each without seeing the other's."""
    people_agree: Interval | None
    """The share of these on which they agree; None: there are too few."""
    ceiling: Interval | None
    """The share of right answers that a perfect model could show against one person's word, as far as that agreement
    tells; None: unknown, or answers are no labels."""

    @property
    def together(self) -> Interval | None:
        return self.teachers.get(TOGETHER)


TOGETHER = "together"


def audit(
    task: Task,
    sample: Sequence[Unlabelled],
    people: Mapping[str, PeoplesAnswer],
    own: Mapping[str, Mapping[str, str | None]],
) -> Audit:
    """Compare teachers with people.

    Args:
        sample: the random sample.
        people: people's answers by the request's id.
        own: each teacher's answers by the request's id, those of all together under `TOGETHER`. None is a reply that
            was no answer, and counts as wrong; a request that is not there was not asked about, and does not count.
    """
    texts = {row.id: row.text for row in sample}
    truth = {key: each.answer for key, each in people.items() if key in texts and each.answer is not None}
    scores = {
        name: [_score(task, texts[key], gold, answers[key]) for key, gold in truth.items() if key in answers]
        for name, answers in own.items()
    }
    teachers = {name: ratio(each, None) for name, each in scores.items() if each}
    compared = {name: len(scores[name]) for name in teachers}
    pairs = [each.first[:2] for key, each in people.items() if key in texts and len(each.first) > 1]
    enough = len(pairs) >= LEAST_PAIRS
    agree = ratio([_between(task, one, other) for one, other in pairs], None) if enough else None
    labels = len(task.answers)
    ceiling = None
    if agree and labels > 1:
        value, low, high = (right_from_agreement(each, labels) for each in (agree.value, agree.low, agree.high))
        ceiling = Interval(value, low, high)
    together = own.get(TOGETHER, {})
    known = {key: gold for key, gold in truth.items() if key in together}
    return Audit(len(truth), teachers, compared, _by_label(task, known, together), len(pairs), agree, ceiling)


def _score(task: Task, request: str, gold: str, answer: str | None) -> Ratio:
    """A missing answer is wrong as a whole."""
    whole = task.measures(request, gold, gold)[task.primary_metric].whole
    return Ratio(0.0, whole) if answer is None else task.measures(request, gold, answer)[task.primary_metric]


def _between(task: Task, one: str | None, other: str | None) -> Ratio:
    if one is None or other is None:
        return Ratio(float(one == other), 1.0)
    return Ratio(agreement(task, "", one, other), 1.0)


def _by_label(task: Task, truth: Mapping[str, str], together: Mapping[str, str | None]) -> list[LabelAudit]:
    if not isinstance(task.constraint, OneOf):
        return []
    found = []
    for label in task.answers:
        so_called = [key for key, gold in truth.items() if gold == label]
        meant = [key for key in truth if together.get(key) == label]
        hits = sum(together.get(key) == label for key in so_called)
        found.append(
            LabelAudit(label, len(so_called), _share(hits, len(so_called)), len(meant), _share(hits, len(meant)))
        )
    worst = [each for each in found if each.recall or each.precision]
    return sorted(worst, key=lambda each: min(i.value for i in (each.recall, each.precision) if i))


def _share(hits: int, count: int) -> Interval | None:
    return (
        ratio([Ratio(1.0, 1.0)] * hits + [Ratio(0.0, 1.0)] * (count - hits), None) if count >= _LEAST_OF_LABEL else None
    )


def answers_needed(share: float, margin: float) -> int:
    """How many answers of people measure a share of right answers to within a margin, with 95 % confidence.

    Args:
        share: as far as it is known; 0.5 is the most demanding.
        margin: half the width of the interval.
    """
    return math.ceil(Z**2 * max(share * (1 - share), 0.01) / margin**2)
