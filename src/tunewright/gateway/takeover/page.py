"""The ledger as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tunewright.core.page import render
from tunewright.gateway.takeover.ledger import GatewayLedger, SavedSums
from tunewright.gateway.takeover.store import ModeChange, Setting

_DAYS = 92
"""The last days that the chart shows."""
_CHANGES = 50


def write_page(path: Path, ledger: GatewayLedger, settings: Mapping[str, Setting], changes: list[ModeChange]) -> None:
    """Write the page.

    Args:
        settings: how each job is answered now.
        changes: of modes, the newest first.
    """
    days: dict[date, SavedSums] = {}
    for job in ledger.jobs:
        for day, entry in job.days.items():
            days.setdefault(day, SavedSums()).add(entry)
    shown = sorted(days.items())[-_DAYS:]
    context: dict[str, Any] = {
        "ledger": ledger,
        "settings": settings,
        "changes": changes[:_CHANGES],
        "days": shown,
        "most": max([entry.api_usd for _, entry in shown] + [1e-9]),
        "now": datetime.now(UTC),
    }
    path.write_text(render("tunewright.gateway.takeover", "ledger.html.jinja", context), "utf-8")
