"""One answer out of several: what the teachers say about a request, and how far they agree."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, OneOf, ToolCall, Unfit


@dataclass(frozen=True)
class Vote:
    """One answer of a teacher to a request."""

    teacher: str
    answer: str | None
    """In canonical form; None: the reply was no answer of the task."""


@dataclass(frozen=True)
class Elected:
    """The answer that has the votes."""

    answer: str
    agreement: float
    """The mean agreement of all votes with it, from 0 to 1. Each teacher counts once, however often it was asked, and a
    vote without an answer agrees with nothing."""


def elect(task: Task, request: str, votes: Sequence[Vote]) -> Elected | None:
    """The answer that agrees best with all votes; of equals the one that came first. None: nobody gave one.

    Two labels agree or they don't; records and texts agree as far as the task's primary metric says. Of records, the
    one of which each field has the most votes is chosen from too, though nobody may have given it whole.
    """
    given = dict.fromkeys(vote.answer for vote in votes if vote.answer is not None)
    if not given:
        return None
    # Not the fields of tool calls: one vote's tool does not go with another's arguments.
    has_fields = isinstance(task.constraint, JsonRecord) and not isinstance(task.constraint, ToolCall)
    if has_fields and len(given) > 1 and (joined := _by_field(task, votes)):
        given = {joined: None} | given
    sums = {answer: support(task, request, votes, answer) for answer in given}
    best = max(given, key=lambda answer: round(sums[answer], 9))
    return Elected(best, sums[best])


def support(task: Task, request: str, votes: Sequence[Vote], answer: str) -> float:
    """The mean agreement of all votes with an answer, from 0 to 1; see `Elected`."""
    counted = [
        share * agreement(task, request, vote.answer, answer)
        for vote, share in zip(votes, _shares(votes), strict=True)
        if vote.answer is not None
    ]
    return min(1.0, sum(counted))


def _shares(votes: Sequence[Vote]) -> list[float]:
    """What each vote counts: all votes of a teacher together as much as those of another."""
    asked = Counter(vote.teacher for vote in votes)
    return [1 / (len(asked) * asked[vote.teacher]) for vote in votes]


def _by_field(task: Task, votes: Sequence[Vote]) -> str | None:
    """The record whose fields each have the most votes; None: it does not fit the schema. A record without a field
    votes for leaving it out."""
    records = [
        (json.loads(vote.answer), share)
        for vote, share in zip(votes, _shares(votes), strict=True)
        if vote.answer is not None
    ]
    chosen = {}
    for name in dict.fromkeys(name for record, _ in records for name in record):
        tally: dict[str | None, float] = defaultdict(float)
        for record, share in records:
            tally[json.dumps(record[name]) if name in record else None] += share
        most = max(tally, key=lambda value: round(tally[value], 9))
        if most is not None:
            chosen[name] = json.loads(most)
    try:
        return task.canonical(json.dumps(chosen))
    except Unfit:
        return None


def agreement(task: Task, request: str, answer: str, other: str) -> float:
    """How far two answers in canonical form agree, from 0 to 1."""
    if answer == other:
        return 1.0
    if isinstance(task.constraint, OneOf):
        return 0.0
    return task.measures(request, answer, other)[task.primary_metric].score


def own_answer(task: Task, request: str, votes: Sequence[Vote], teacher: str) -> str | None:
    """What one teacher answers: what most of its own votes say."""
    elected = elect(task, request, [vote for vote in votes if vote.teacher == teacher])
    return elected.answer if elected else None
