"""Entries of journals, and journals that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.serve.captures import Capture, CaptureJournal, Feedback

TIME = "2026-11-27T01:30:00.123+00:00"


def capture(identity: str, **changes: Any) -> Capture:
    usual: dict[str, Any] = {
        "time": TIME, "model": "tickets", "version": "v1", "by": None, "request": f"request {identity}",
        "answer": "billing", "confidence": 0.9, "escalate": False, "in_scope": True,
    }  # fmt: skip
    return Capture(id=identity, **usual | changes)


def feedback(identity: str, **changes: Any) -> Feedback:
    usual: dict[str, Any] = {
        "time": TIME, "model": "tickets", "by": None, "right": False, "answer": "refund", "comment": "",
    }  # fmt: skip
    return Feedback(id=identity, **usual | changes)


def write(folder: Path, *entries: Capture | Feedback) -> None:
    journal = CaptureJournal(folder)
    assert all(journal.keep(entry) for entry in entries)
    journal.close()
