"""Entries of journals, and journals that hold them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunewright.serving.captures import CaptureRecord, Feedback, RequestLog

TIME = datetime.now(UTC).isoformat(timespec="milliseconds")
"""Today: from days that are over the audit draws."""


def capture(identity: str, **changes: Any) -> CaptureRecord:
    usual: dict[str, Any] = {
        "time": TIME,
        "model": "tickets",
        "version": "v1",
        "by": None,
        "request": f"request {identity}",
        "answer": "billing",
        "confidence": 0.9,
        "escalate": False,
        "in_scope": True,
    }
    return CaptureRecord(id=identity, **usual | changes)


def feedback(identity: str, **changes: Any) -> Feedback:
    usual: dict[str, Any] = {
        "time": TIME,
        "model": "tickets",
        "by": None,
        "right": False,
        "answer": "refund",
        "comment": "",
    }
    return Feedback(id=identity, **usual | changes)


def write(folder: Path, *entries: CaptureRecord | Feedback) -> None:
    request_log = RequestLog(folder)
    assert all(request_log.keep(entry) for entry in entries)
    request_log.close()
