"""How long we wait between two polls of a long operation of Azure, and in all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.backends.azure import connection, refusals, waiting
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.workspace import WorkspaceName
from tunewright.core.errors import UserError

NOON = "Wed, 02 Dec 2026 12:00:00 GMT"


class Slow:
    """A Resource Manager that ends a call after so many polls; its clock is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int, **headers: str):
        self.slept: list[float] = []
        accepted = {"location": "https://management.azure.com/x"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }

        def send(*_: Any) -> Any:
            if len(self.slept) < looks:
                return SimpleNamespace(status_code=202, headers=accepted, content=b"")
            return SimpleNamespace(status_code=200, headers={}, content=b"{}", json=lambda: {"done": True})

        monkeypatch.setattr(Connection, "_send", lambda _, *rest: send(*rest))
        monkeypatch.setattr(connection.time, "sleep", self.slept.append)
        monkeypatch.setattr(waiting.time, "monotonic", lambda: sum(self.slept))
        self.at = Connection(WorkspaceName("s", "g", "w"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, connection._POLL_SECONDS),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "7"}, 7),
        ({"retry_after": " 1.5"}, 1.5),
        ({"retry_after": "3600"}, connection._LONGEST_POLL),
        ({"retry_after": "Wed, 02 Dec 2026 12:00:09 GMT", "date": NOON}, 9),
        ({"retry_after": "Wed, 02 Dec 2026 12:00:09 -0000", "date": NOON}, 9),
        ({"retry_after": "Wed, 02 Dec 2026 13:00:00 GMT", "date": NOON}, connection._LONGEST_POLL),
        ({"retry_after": "Wed, 02 Dec 2026 11:00:00 GMT", "date": NOON}, connection._POLL_SECONDS),
        ({"retry_after": "in a while"}, connection._POLL_SECONDS),
        ({"retry_after": "-5"}, connection._POLL_SECONDS),
        ({"retry_after": "nan"}, connection._POLL_SECONDS),
    ],
)
def test_retry_after_is_kept_within_bounds(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], seconds: float
) -> None:
    slow = Slow(monkeypatch, 1, **headers)
    assert slow.at.ask("PUT", "/x", "2024-01-01") == {"done": True}
    assert slow.slept == [seconds]


def test_a_date_without_a_clock_beside_it_is_read_by_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    slow = Slow(monkeypatch, 1, retry_after=then)
    slow.at.ask("PUT", "/x", "2024-01-01")
    assert 15 < slow.slept[0] <= 20


@pytest.mark.parametrize("asked", ["3600", "Wed, 02 Dec 2036 12:00:00 GMT"])
def test_the_whole_wait_has_a_limit_and_a_line_each_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    slow = Slow(monkeypatch, 10_000, retry_after=asked)
    with pytest.raises(UserError, match="not ended PUT /a/x after 50 minutes"):
        slow.at.ask("PUT", "/a/x", "2024-01-01", costs="$3.67 an hour")
    assert sum(slow.slept) <= connection._LONGEST_SECONDS + connection._LONGEST_POLL
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 50
    assert lines[1] == "  azure: waiting for Azure to end PUT a/x, 2 min, at most 50; $3.67 an hour"


def test_a_date_without_a_zone_is_in_utc() -> None:
    """A date of "-0000" once ended in a TypeError."""
    answer = SimpleNamespace(headers={"date": "Wed, 02 Dec 2020 12:00:00 -0000"})
    assert refusals.clock_ahead(answer) < -refusals.CLOCK_SECONDS
    assert refusals.clock_ahead(SimpleNamespace(headers={"date": "soon"})) == 0
    assert refusals.clock_ahead(None) == 0
