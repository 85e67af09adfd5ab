"""When examples were written: the forms of time that a time column may hold, and the instants they mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tunewright.core.errors import UserError
from tunewright.data.corrections import version_of_correction
from tunewright.tasks import Example

SECONDS = (1e8, 4.2e9)
"""Numbers that are epoch seconds: from 1973 to 2103. 20240131 is a date."""
MILLISECONDS = (4.2e11, 4.2e12)
"""Numbers that are epoch milliseconds: from 1983 to 2103. 202401310930 is neither, and is refused."""

_Instant = tuple[str, float]


def instants_of(examples: Sequence[Example]) -> dict[str, float]:
    """Seconds since 1970 (UTC where no zone is given) for each distinct `meta.time`.

    The column may hold ISO 8601 dates (read as their midnight) and date-times, all with a zone or all without, or epoch
    seconds or milliseconds, all of one kind.

    Raises:
        UserError: a time can't be read, or the times are of several kinds, so that their order would be a guess.
    """
    parsed = {text: _read(text) for text in {example.meta.time or "" for example in examples}}
    unread = [example for example in examples if parsed[example.meta.time or ""] is None]
    if unread:
        raise UserError(
            f"{len(unread)} of {len(examples)} times can't be read; this is the first.",
            where=_place(unread[0]),
            fix="Write ISO 8601 (2026-01-31, 2026-01-31T09:30:00Z) or epoch seconds, or leave data.time out.",
        )
    instants = {text: instant for text, instant in parsed.items() if instant is not None}
    # A correction's time always has a zone, so its order is certain whatever the data's times are.
    own = [example for example in examples if not version_of_correction(example.meta.source)]
    counts = Counter(instants[example.meta.time or ""][0] for example in own)
    if len(counts) > 1:
        usual = max(counts, key=lambda kind: (counts[kind], kind))
        others = [example for example in own if instants[example.meta.time or ""][0] != usual]
        listing = ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
        raise UserError(
            f"The times are of several kinds: {listing}; this is the first of {len(others)} that differ from most.",
            where=_place(others[0]),
            why="It is not certain which of two such times is the newer.",
            fix="Write all times the same way.",
        )
    return {text: seconds for text, (_, seconds) in instants.items()}


def kind_of_time(example: Example) -> str | None:
    """The kind of an example's `meta.time`, in words; None: it can't be read."""
    instant = _read(example.meta.time or "")
    return instant and instant[0]


def _read(text: str) -> _Instant | None:
    """(kind, seconds), or None where the text is no time."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        number = float(text)
        if SECONDS[0] <= number < SECONDS[1]:
            return "epoch seconds", number
        if MILLISECONDS[0] <= number < MILLISECONDS[1]:
            return "epoch milliseconds", number / 1000
        if len(text) != len("YYYYMMDD"):
            return None  # Python would accept any character, even a digit, as the separator between date and time.
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo:
        return "ISO 8601 with a zone", moment.timestamp()
    return "ISO 8601 without a zone", moment.replace(tzinfo=UTC).timestamp()


def _place(example: Example) -> str:
    return example.meta.source or example.meta.id
