"""Captures and what is said to them, made up for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tunewright.monitoring.store.tables import Capture, Review, SecondOpinion

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def capture(number: int = 0, request: str = "Where is my parcel?", answer: str = "billing", **more: Any) -> Capture:
    told = {"confidence": 0.9, "escalate": False, "in_scope": True, "model": "tickets", "version": "v1", "by": None}
    return Capture(
        id=f"{number:032x}", time=NOON + timedelta(minutes=number), request=request, answer=answer, **(told | more)
    )


def opinion(of: Capture, answer: str, source: str = "api") -> SecondOpinion:
    return SecondOpinion(capture_id=of.id, source=source, time=NOON, answer=answer, confidence=None)


def review(of: Capture, reviewer: str, answer: str | None = None, **more: Any) -> Review:
    """Somebody's review; without an answer, the model's is right."""
    told = {"source": "review", "time": NOON, "right": answer in (None, of.answer)}
    return Review(capture_id=of.id, reviewer=reviewer, answer=answer or of.answer, **(told | more))
