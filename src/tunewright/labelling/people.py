"""What people are asked in the review app, and what they answered.

Requests to label wait in the store as captures of a model of their own, without an answer. So nobody sees what a
teacher says, and neither drift nor corrections nor the model's own figures count them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from tunewright.labelling.requests import Unlabelled
from tunewright.monitoring.queue import dispute, end_dispute
from tunewright.monitoring.store.database import Store, pieces
from tunewright.monitoring.store.tables import DRAWN, EXPERT, PAIRED, Capture, Review, label_queue_of
from tunewright.tasks import Task
from tunewright.tasks.base import Unfit

_UNLABELLED = "unlabelled"
_DISPUTED = 1.0
"""The priority of requests that teachers disagree on: after the sample."""


@dataclass(frozen=True)
class PeoplesAnswer:
    """What people say about one request."""

    answer: str | None
    """In canonical form; None: none is right, or nobody can tell, or they differ and nobody has settled it."""
    first: tuple[str | None, ...]
    """The answers of people who saw no other's, in the order in which they came."""
    is_settled: bool
    """Whether their answers differed, and somebody decided."""

    @property
    def is_open(self) -> bool:
        """Whether people differ and nobody has decided."""
        return not self.is_settled and len(set(self.first)) > 1


def ask_people(
    store: Store,
    name: str,
    sample: Sequence[Unlabelled],
    paired: Collection[str],
    disputed: Sequence[Unlabelled],
) -> None:
    """Put requests into the queue. Those that are in it already stay as they are, but for disputed ones that a larger
    sample has drawn: they come with it.

    Args:
        name: the project's.
        sample: requests of the random sample, which come first.
        paired: the ids of those that two people answer.
        disputed: requests that teachers disagree on.
    """
    now = datetime.now(UTC)
    priorities = {row.id: PAIRED if row.id in paired else DRAWN for row in sample}
    rows = [
        {
            "id": _capture_id(name, row.id),
            "time": now,
            "model": label_queue_of(name),
            "version": _UNLABELLED,
            "request": row.text.replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL accepts no NUL
            "answer": "",
            "novelty": 0.0,
            "priority": priorities.get(row.id, _DISPUTED),
        }
        for row in (*sample, *disputed)
    ]
    new = store.insert(Capture)
    statement = new.on_conflict_do_update(
        index_elements=["id"],
        set_={"priority": new.excluded.priority},
        where=(Capture.priority < DRAWN) & (new.excluded.priority >= DRAWN),
    )
    with store.session() as session:
        for some in pieces(rows):
            session.execute(statement, list(some))


def answers_of_people(store: Store, name: str, rows: Sequence[Unlabelled]) -> dict[str, PeoplesAnswer | None]:
    """People's answers by the request's id; None where they took all of them back."""
    asked = {_capture_id(name, row.id): row.id for row in rows}
    given: defaultdict[str, list[Review]] = defaultdict(list)
    with store.session() as session:
        for some in pieces(list(asked)):
            query = select(Review).where(Review.capture_id.in_(some), Review.source.in_(EXPERT))
            for review in session.scalars(query.order_by(Review.number)):
                given[asked[review.capture_id]].append(review)
    return {key: _answer([each for each in reviews if each.undone is None]) for key, reviews in given.items()}


def fitted(task: Task, said: PeoplesAnswer) -> PeoplesAnswer:
    """What people say, in the form of a task that may have changed since.

    Raises:
        Unfit: an answer that decides is none of the task any more. What people meant by it, nobody but they can tell.
    """
    if not said.is_settled:
        first = tuple(_canonical(task, each) for each in said.first)
        return PeoplesAnswer(_common(first), first, is_settled=False)
    kept: list[str | None] = []
    for each in said.first:
        with suppress(Unfit):
            kept.append(_canonical(task, each))
    return PeoplesAnswer(_canonical(task, said.answer), tuple(kept), is_settled=True)


def offer_again(store: Store, name: str, outdated: Iterable[str], fitting: Iterable[str]) -> None:
    """Let people answer requests again on the page Agreement. The queue shows nobody what they have answered.

    Args:
        name: the project's.
        outdated: the ids of requests whose answers are none of the task any more.
        fitting: the ids of those on whose answer people agree. They leave the page, if they came there before the task
            had these answers again.
    """
    with store.session() as session:
        dispute(session, [_capture_id(name, each) for each in outdated])
        end_dispute(session, [_capture_id(name, each) for each in fitting])


def _canonical(task: Task, answer: str | None) -> str | None:
    if answer is None:
        return None
    canonical = task.canonical(answer)
    if not canonical.strip():
        raise Unfit("nothing is left of the answer in the task's form")
    return canonical


def _answer(reviews: Sequence[Review]) -> PeoplesAnswer | None:
    if not reviews:
        return None
    settled = [each for each in reviews if each.source == "settle"]
    first = tuple(each.answer for each in reviews if each.source != "settle")
    if settled:
        return PeoplesAnswer(settled[-1].answer, first, is_settled=True)
    return PeoplesAnswer(_common(first), first, is_settled=False)


def _common(answers: Sequence[str | None]) -> str | None:
    """The answer that all give; None: they differ, or give none."""
    return answers[0] if len(set(answers)) == 1 else None


def _capture_id(name: str, request: str) -> str:
    return f"label_{hashlib.sha256(f'{name}/{request}'.encode()).hexdigest()[:40]}"
