"""From votes to labels: which answer a request gets, and with which weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunewright.data.curve.classical import fit_linear
from tunewright.labelling.dawid_skene import NONE, Estimate, dawid_skene
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.trust import Floats, Trust, learn_trust
from tunewright.labelling.votes import Vote, agreement, elect, own_answer, support
from tunewright.tasks import Task
from tunewright.tasks.base import OneOf

_FOLDS = 5
_RIGHT = 0.999
"""From which agreement with people's a label counts as right: a record only as a whole."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """A request with the answer that its votes give it."""

    row: Unlabelled
    answer: str
    agreement: float
    """Of the votes with it."""
    weight: float
    """The probability that it is right, as far as that is known."""


@dataclass(frozen=True)
class SettledLabels:
    """What all votes give."""

    labels: dict[str, Labelled]
    """By the request's id; requests to which no teacher gave an answer are left out."""
    own: dict[str, dict[str, str | None]]
    """Each teacher's own answer, by its name and the request's id."""
    by_people: bool
    """Whether the weights rest on people's answers, and not on agreement alone."""


def settle(
    task: Task,
    rows: Sequence[Unlabelled],
    votes: Mapping[str, Sequence[Vote]],
    people: Mapping[str, PeoplesAnswer],
    sample: Sequence[str],
) -> SettledLabels:
    """Decide on each request.

    Where several teachers choose labels, their tables of confusion decide (`dawid_skene`), else the vote. What people
    say of requests outside the sample counts there; the sample itself only tells what the labels are worth, because
    it is the test.

    Args:
        rows: the requests with votes.
        sample: the ids of the random sample.
    """
    teachers = list(dict.fromkeys(vote.teacher for each in votes.values() for vote in each))
    own = {name: {row.id: own_answer(task, row.text, votes[row.id], name) for row in rows} for name in teachers}
    elected = {row.id: each for row in rows if (each := elect(task, row.text, votes[row.id]))}
    kept = [row for row in rows if row.id in elected]
    answers = [elected[row.id].answer for row in kept]
    agreements = np.array([elected[row.id].agreement for row in kept])
    scores, of_sample = agreements, set(sample)
    is_labels = isinstance(task.constraint, OneOf)
    if is_labels and len(teachers) > 1 and kept:
        known = {key: each.answer for key, each in people.items() if each.answer and key not in of_sample}
        estimate = _by_tables(task, kept, [own[name] for name in teachers], known)
        answers = [task.answers[number] for number in estimate.posterior.argmax(1)]
        scores = estimate.posterior.max(1)
    inside = np.array([row.id in of_sample for row in kept], bool)
    opinions = _opinions(kept, answers, inside) if is_labels else np.zeros(len(kept))
    judged = [number for number, row in enumerate(kept) if inside[number] and _is_answered(people.get(row.id))]
    right = [_is_right(task, kept[number].text, people[kept[number].id].answer, answers[number]) for number in judged]
    trust = learn_trust(scores[judged], opinions[judged], right) if judged else Trust()
    # Without people's word the tables are too sure of themselves: teachers err alike.
    weights = trust.of(scores if trust.coefficients is not None else agreements, opinions)
    labels = {
        row.id: Labelled(row, answer, support(task, row.text, votes[row.id], answer), float(weight))
        for row, answer, weight in zip(kept, answers, weights, strict=True)
    }
    return SettledLabels(labels, own, trust.coefficients is not None)


def _is_right(task: Task, request: str, said: str | None, answer: str) -> bool:
    return said is not None and agreement(task, request, said, answer) >= _RIGHT


def _is_answered(people: PeoplesAnswer | None) -> bool:
    return people is not None and not people.is_open


def _by_tables(
    task: Task,
    rows: Sequence[Unlabelled],
    own: Sequence[Mapping[str, str | None]],
    known: Mapping[str, str],
) -> Estimate:
    number = {label: place for place, label in enumerate(task.answers)}
    votes = np.array([[number.get(each[row.id] or "", NONE) for each in own] for row in rows])
    truth = np.array([number.get(known.get(row.id, ""), NONE) for row in rows])
    return dawid_skene(votes, len(number), truth)


def _opinions(rows: Sequence[Unlabelled], answers: Sequence[str], inside: Mask) -> Floats:
    """How far a linear model puts each answer before the best other one. It has not learnt from the text that it
    judges, and never from the sample."""
    opinions = np.zeros(len(rows))
    learnt = np.flatnonzero(~inside)
    if len({answers[int(each)] for each in learnt}) < 2:
        return opinions
    fold = np.arange(len(rows)) % _FOLDS
    for number in range(_FOLDS):
        of_fold = [int(each) for each in learnt if fold[each] != number]
        asked = [each for each in range(len(rows)) if fold[each] == number]
        if not of_fold:  # all that can be learnt is in this fold
            continue
        model = fit_linear([rows[each].text for each in of_fold], [answers[each] for each in of_fold])
        place = {label: position for position, label in enumerate(model.labels)}
        for each, logits in zip(asked, model.of_texts([rows[one].text for one in asked]), strict=True):
            position = place.get(answers[each])
            held = -1.0 if position is None else float(logits[position])
            others = np.delete(logits, position) if position is not None else logits
            opinions[each] = held - float(others.max()) if len(others) else 0.0
    return opinions
