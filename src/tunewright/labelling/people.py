"""What people are asked in the review app, and what they answered.

Requests to label wait in the store as captures of a model of their own, without an answer. So nobody sees what a
teacher says, and neither drift nor corrections nor the model's own figures count them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from tunewright.labelling.requests import Unlabelled
from tunewright.monitoring.store.database import Store, pieces
from tunewright.monitoring.store.tables import DRAWN, EXPERT, PAIRED, Capture, Review, label_queue_of

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


def _answer(reviews: Sequence[Review]) -> PeoplesAnswer | None:
    if not reviews:
        return None
    settled = [each for each in reviews if each.source == "settle"]
    first = tuple(each.answer for each in reviews if each.source != "settle")
    if settled:
        return PeoplesAnswer(settled[-1].answer, first, is_settled=True)
    return PeoplesAnswer(first[0] if len(set(first)) == 1 else None, first, is_settled=False)


def _capture_id(name: str, request: str) -> str:
    return f"label_{hashlib.sha256(f'{name}/{request}'.encode()).hexdigest()[:40]}"
