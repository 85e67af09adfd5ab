"""Values in logs: JSON that was written as text, times in several units, counts that may be texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_EARLIEST = 2015
"""No call of a language model was logged before this year. An earlier time stands for an unknown one, or is none."""
_NANO, _MICRO, _MILLI = 1e17, 1e14, 1e11
"""From these on, a time since 1970 counts nanoseconds, microseconds or milliseconds: in seconds each would be in the
year 5000 or later."""


def parsed(value: Any) -> Any:
    """The value of a text that is a JSON object or list; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object that a value is, perhaps as text; empty if it is none."""
    value = parsed(value)
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """The list that a value is, perhaps as JSON text; empty if it is none."""
    value = parsed(value)
    return value if isinstance(value, list) else []


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects in a list."""
    return (each for each in items(value) if isinstance(each, Mapping))


def first(source: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these keys that is there and not null."""
    return next((source[name] for name in names if source.get(name) is not None), None)


def text(value: Any) -> str | None:
    """A text; None if it is none, or empty."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """A finite number that is not negative, perhaps written as text; None if it is none."""
    found = _decimal(value)
    return found if found is not None and found >= 0 else None


def whole(value: Any) -> int | None:
    """A whole number, perhaps negative, perhaps written as text or as a decimal, as tables have one; None if it is
    none."""
    found = _decimal(value)
    return int(found) if found is not None and found.is_integer() else None


def _decimal(value: Any) -> float | None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: Any) -> int:
    """A count; 0 if it is none."""
    found = number(value)
    return int(found) if found is not None and found < 2**53 else 0


def moment(value: Any) -> datetime | None:
    """A point in time, in UTC: ISO 8601, or a number since 1970 in seconds, milli-, micro- or nanoseconds. None if it
    is none, or from before there were such calls: zeros stand for unknown times, as in the first chunks of Azure's
    streams."""
    found = _point(value)
    return found if found and found.year >= _EARLIEST else None


def first_moment(source: Mapping[str, Any], *names: str) -> datetime | None:
    """The first of these keys' values that is a point in time."""
    return next((found for name in names if (found := moment(source.get(name)))), None)


def _point(value: Any) -> datetime | None:
    if isinstance(value, str) and number(value) is None:
        try:
            found = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return None
    since = number(value)
    if since is None:
        return None
    unit = 1e9 if since >= _NANO else 1e6 if since >= _MICRO else 1e3 if since >= _MILLI else 1.0
    try:
        return datetime.fromtimestamp(since / unit, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def between(begin: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one point in time to a later one."""
    if begin is None or end is None or end < begin:
        return None
    return (end - begin).total_seconds()
