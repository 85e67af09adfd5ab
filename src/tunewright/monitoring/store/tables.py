"""What the store holds. A change here needs a migration beside it (`migrations/versions`)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Date, DateTime, Dialect, Float, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

ID = 64
"""Letters of an answer's id at most."""
NAME = 120
"""Letters of a model's name, a version, a person."""


EXPERT = ("review", "bulk", "settle")
"""Sources of reviews by the people whose work this is."""
BY_CLIENT = "feedback"
"""The source of what whoever had asked said, which is an opinion only."""
STATES = ("open", "done", "conflict")
"""Of a capture in the queue."""
DRAWN = 2.0
"""The priority of captures that were drawn at random (`tunewright.monitoring.queue`); of others it is 1 at most."""


class UtcTime(TypeDecorator[datetime]):
    """A point in time. Stored in UTC without saying so, which every database sorts; always aware in Python."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.replace(tzinfo=UTC) if value else None


class Base(DeclarativeBase):
    pass


class Capture(Base):
    """A request that was served, and how much it is worth a reviewer's time."""

    __tablename__ = "captures"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True)
    """The answer's."""
    time: Mapped[datetime] = mapped_column(UtcTime, index=True)
    model: Mapped[str] = mapped_column(String(NAME))
    version: Mapped[str] = mapped_column(String(NAME))
    """Of the bundle that answered."""
    by: Mapped[str | None] = mapped_column(String(NAME))
    """The key that asked."""
    request: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Float)
    escalate: Mapped[bool | None]
    in_scope: Mapped[bool | None]
    weight: Mapped[float] = mapped_column(Float, default=1.0)
    """Requests that this one stands for: 1 / the share that is kept."""
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    answer_tokens: Mapped[int] = mapped_column(Integer, default=0)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    novelty: Mapped[float] = mapped_column(Float, default=0.0)
    """0: much like what the model was judged on; 1: unlike anything."""
    disagreement: Mapped[float] = mapped_column(Float, default=0.0)
    """Share of the second opinions that give another answer."""
    priority: Mapped[float] = mapped_column(Float, default=0.0)
    """Uncertainty x novelty x disagreement, each above zero, or `DRAWN`; the review queue's order."""
    cluster: Mapped[str] = mapped_column(String(16), default="")
    """The same for requests that are alike, word for word or nearly."""
    state: Mapped[str] = mapped_column(String(8), default="open")
    """open; done: enough people have reviewed it; conflict: they have, and differ, and nobody has settled it yet."""

    __table_args__ = (
        Index("captures_queue", "model", "state", "priority", "id"),
        Index("captures_cluster", "model", "state", "cluster"),
    )


class SecondOpinion(Base):
    """What another model answers to a captured request: the API that was paid before, or another bundle."""

    __tablename__ = "second_opinions"

    capture_id: Mapped[str] = mapped_column(String(ID), primary_key=True)
    source: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    """`api`, or the version of a bundle."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    answer: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Float)


class Review(Base):
    """What somebody said to an answer. Never changed; undoing it is noted on it."""

    __tablename__ = "reviews"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    capture_id: Mapped[str] = mapped_column(String(ID))
    """No foreign key: feedback may arrive before what it speaks of, or where that was not sampled."""
    reviewer: Mapped[str] = mapped_column(String(NAME))
    """Who said it: `Account.reviewer` of who signs in with a provider, else the name that an operator gave. In reviews
    from before there were accounts, what a provider called somebody then."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    source: Mapped[str] = mapped_column(String(8))
    """review (one by one), bulk (with others of its cluster), settle (the last word where reviewers differed), or
    feedback (of who asked)."""
    act: Mapped[str] = mapped_column(String(16), default="", index=True)
    """The same for reviews that were saved together, and are undone together."""
    answer: Mapped[str | None] = mapped_column(Text)
    """The right one, in the task's form; None: there is none, or nobody can tell."""
    right: Mapped[bool]
    """Whether the model's answer was."""
    comment: Mapped[str] = mapped_column(Text, default="")
    undone: Mapped[datetime | None] = mapped_column(UtcTime)
    undone_by: Mapped[str | None] = mapped_column(String(NAME))
    dataset: Mapped[int | None] = mapped_column(Integer, index=True)
    """The number of `corrections/N` that it went into."""

    __table_args__ = (
        Index("reviews_capture", "capture_id", "reviewer"),
        Index("reviews_reviewer", "reviewer", "number"),
    )


class Account(Base):
    """An account at an identity provider that somebody reviews with."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of issuer and subject, which no other account has."""
    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(NAME))
    """What its owner was called when he last signed in."""
    reviewer: Mapped[str] = mapped_column(String(NAME), unique=True)
    """What his reviews stand under: his name when he first signed in, and the beginning of `id`. It never changes."""
    time: Mapped[datetime] = mapped_column(UtcTime)
    """When it was first seen."""


class Deployment(Base):
    """Something that happened to what serves."""

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
    """A drift that was found."""

    __tablename__ = "alarms"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcTime, index=True)
    model: Mapped[str] = mapped_column(String(NAME))
    version: Mapped[str] = mapped_column(String(NAME))
    kind: Mapped[str] = mapped_column(String(24))
    """The trait that drifted, or accuracy."""
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    ended: Mapped[datetime | None] = mapped_column(UtcTime)
    """When it was found gone."""
    told: Mapped[datetime | None] = mapped_column(UtcTime)
    """When the webhook took it."""


class Tally(Base):
    """What a bundle answered on a day. Outlives the captures it counts."""

    __tablename__ = "tallies"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    """In UTC."""
    model: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    version: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    captured: Mapped[int] = mapped_column(BigInteger, default=0)
    answered: Mapped[float] = mapped_column(Float, default=0.0)
    """Requests that the captured ones stand for; so are all that follow."""
    escalated: Mapped[float] = mapped_column(Float, default=0.0)
    prompt_tokens: Mapped[float] = mapped_column(Float, default=0.0)
    answer_tokens: Mapped[float] = mapped_column(Float, default=0.0)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)


class Mark(Base):
    """How far a journal's file was collected."""

    __tablename__ = "marks"

    file: Mapped[str] = mapped_column(String(255), primary_key=True)
    """Its name, which no other file has."""
    offset: Mapped[int] = mapped_column(BigInteger)
    """Bytes of whole lines."""
