"""The tables of the store. Each change needs a migration (`migrations/versions`)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Date, DateTime, Dialect, Float, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

ID = 64
"""The most letters in an answer's id."""
NAME = 120
"""The most letters in the name of a model, version or person."""


EXPERT = ("review", "bulk", "settle")
"""Sources of reviews by experts."""
BY_CLIENT = "feedback"
"""The source of a client's feedback, which is only an opinion."""
STATES = ("open", "done", "conflict")
"""The states of a capture in the queue."""
PAIRED = 3.0
"""The priority from which two people review a capture, whatever else is set: some of the requests to label."""
DRAWN = 2.0
"""The priority of captures drawn at random for the audit (`tunewright.monitoring.queue`); others have at most 1."""


def label_queue_of(name: str) -> str:
    """The name of the model as whose captures a project's requests to label wait.

    Args:
        name: the project's.
    """
    return f"{name}/labels"


class UtcTime(TypeDecorator[datetime]):
    """A point in time: stored in UTC without a time zone, so that every database sorts it; aware in Python."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.replace(tzinfo=UTC) if value else None


class Base(DeclarativeBase):
    pass


class Capture(Base):
    """A served request with its answer, and its priority for review."""

    __tablename__ = "captures"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True)
    """The answer's id."""
    time: Mapped[datetime] = mapped_column(UtcTime, index=True)
    model: Mapped[str] = mapped_column(String(NAME))
    version: Mapped[str] = mapped_column(String(NAME))
    """The version of the bundle that answered."""
    by: Mapped[str | None] = mapped_column(String(NAME))
    """The client's key."""
    request: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Float)
    escalate: Mapped[bool | None]
    in_scope: Mapped[bool | None]
    weight: Mapped[float] = mapped_column(Float, default=1.0)
    """The number of requests that this one represents: 1 / the kept share."""
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    answer_tokens: Mapped[int] = mapped_column(Integer, default=0)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    novelty: Mapped[float] = mapped_column(Float, default=0.0)
    """0: similar to the data that the model was evaluated on; 1: unlike any of them."""
    disagreement: Mapped[float] = mapped_column(Float, default=0.0)
    """The share of second opinions and clients' feedback that is against the answer."""
    priority: Mapped[float] = mapped_column(Float, default=0.0)
    """Uncertainty x novelty x disagreement, each above zero, or `DRAWN`; the review queue's order."""
    cluster: Mapped[str] = mapped_column(String(16), default="")
    """A key that equal or similar requests share."""
    state: Mapped[str] = mapped_column(String(8), default="open")
    """open; done: enough people have reviewed it; conflict: a person has to settle what its answer is, because reviews
    differ, or for another reason (`tunewright.monitoring.queue.dispute`)."""

    __table_args__ = (
        Index("captures_queue", "model", "state", "priority", "id"),
        Index("captures_cluster", "model", "state", "cluster"),
    )


class SecondOpinion(Base):
    """Another model's answer to a captured request: that of the former API, or of another bundle."""

    __tablename__ = "second_opinions"

    capture_id: Mapped[str] = mapped_column(String(ID), primary_key=True)
    source: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    """`api`, or the version of a bundle."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    answer: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Float)


class Review(Base):
    """A person's review of an answer. It never changes, except for the note that somebody undid it."""

    __tablename__ = "reviews"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    capture_id: Mapped[str] = mapped_column(String(ID))
    """Not a foreign key, because feedback may arrive before its capture, or for a request that was not captured."""
    reviewer: Mapped[str] = mapped_column(String(NAME))
    """The reviewer: `Account.reviewer` for people who sign in with a provider, else the name that an operator gave. In
    reviews older than accounts, the person's name at the provider."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    source: Mapped[str] = mapped_column(String(8))
    """review (a single one), bulk (with others of its cluster), settle (decides between reviewers), or feedback (from a
    client)."""
    act: Mapped[str] = mapped_column(String(16), default="", index=True)
    """A key that reviews share which were saved together; they are undone together."""
    answer: Mapped[str | None] = mapped_column(Text)
    """The right answer, in the task's form; None: there is none, or nobody can tell."""
    right: Mapped[bool]
    """Whether the model's answer was right."""
    comment: Mapped[str] = mapped_column(Text, default="")
    undone: Mapped[datetime | None] = mapped_column(UtcTime)
    undone_by: Mapped[str | None] = mapped_column(String(NAME))
    dataset: Mapped[int | None] = mapped_column(Integer, index=True)
    """The number N of the `corrections/N` that contains the review."""

    __table_args__ = (
        Index("reviews_capture", "capture_id", "reviewer"),
        Index("reviews_reviewer", "reviewer", "number"),
    )


class Account(Base):
    """A reviewer's account at an identity provider."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of issuer and subject, which is unique."""
    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(NAME))
    """The owner's name at their last sign-in."""
    reviewer: Mapped[str] = mapped_column(String(NAME), unique=True)
    """The name under which their reviews are stored: their name at the first sign-in, and the start of `id`. It never
    changes."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    """The time of the first sign-in."""


class Deployment(Base):
    """An event of a served version."""

    __tablename__ = "deployments"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcTime)
    model: Mapped[str] = mapped_column(String(NAME))
    version: Mapped[str] = mapped_column(String(NAME))
    event: Mapped[str] = mapped_column(String(16))
    """trained, refused, shadow, canary, promoted or rolled-back."""
    by: Mapped[str] = mapped_column(String(NAME))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class Alarm(Base):
    """A detected drift."""

    __tablename__ = "alarms"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcTime, index=True)
    model: Mapped[str] = mapped_column(String(NAME))
    version: Mapped[str] = mapped_column(String(NAME))
    kind: Mapped[str] = mapped_column(String(24))
    """The trait that drifted, or accuracy."""
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    ended: Mapped[datetime | None] = mapped_column(UtcTime)
    """The time at which its cause was gone."""
    told: Mapped[datetime | None] = mapped_column(UtcTime)
    """The time at which the webhook accepted it."""


class Tally(Base):
    """Counts of a bundle's answers on one day. It outlives the captures that it counts."""

    __tablename__ = "tallies"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    """The day in UTC."""
    model: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    version: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    captured: Mapped[int] = mapped_column(BigInteger, default=0)
    answered: Mapped[float] = mapped_column(Float, default=0.0)
    """The number of requests that the captured ones represent. All following columns count these requests, too."""
    escalated: Mapped[float] = mapped_column(Float, default=0.0)
    prompt_tokens: Mapped[float] = mapped_column(Float, default=0.0)
    answer_tokens: Mapped[float] = mapped_column(Float, default=0.0)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)


class Mark(Base):
    """How far a request log was collected."""

    __tablename__ = "marks"

    file: Mapped[str] = mapped_column(String(255), primary_key=True)
    """The log's file name, which is unique."""
    offset: Mapped[int] = mapped_column(BigInteger)
    """The collected bytes, in whole lines."""
