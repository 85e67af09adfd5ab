"""How many answers of a project people reviewed, and how many of them they corrected, by the day of the answer."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

from tunewright.config import load_spec
from tunewright.monitoring.captured import last_reviews
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.tables import Capture
from tunewright.project import Project


def reviews_by_day(project: Path) -> dict[date, tuple[int, int]]:
    """(reviewed, corrected) answers of each day. The last expert's review of an answer counts. Empty without a store.

    Raises:
        UserError: the project's spec can't be read, or the store does not answer.
    """
    spec = load_spec(project)
    if spec.monitor.database is None and not Project(spec.folder).store.exists():
        return {}
    store = open_store(spec)
    try:
        with store.session() as session:
            rows = last_reviews(session, Capture.model == spec.name)
    finally:
        store.close()
    reviewed = Counter(row.time.date() for row in rows)
    wrong = Counter(row.time.date() for row in rows if not row.right)
    return {day: (count, wrong[day]) for day, count in reviewed.items()}
