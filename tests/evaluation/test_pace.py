from __future__ import annotations

import time

import pytest

from tunewright.evaluation.api.pace import Pace, wait_asked_for


@pytest.mark.slow
def test_a_refusal_halves_the_pace_and_answers_raise_it() -> None:
    class Reply:
        def __init__(self, status: int, **headers: str):
            self.status_code, self.headers, self.is_success = status, headers, status == 200

    pace = Pace(8)
    pace.after(Reply(429, **{"retry-after-ms": "60"}))
    pace.after(Reply(429))  # of the same burst
    assert pace.at_once == 4
    for _ in range(50):
        pace.after(Reply(200))
    assert pace.at_once == 8
    started = time.monotonic()
    pace.before(None)
    assert time.monotonic() - started > 0.05


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({}, 1),
        ({"retry-after": "soon"}, 1),
        ({"retry-after": "-3"}, 0),
    ],
)
def test_the_wait_is_the_one_asked_for(headers: dict[str, str], seconds: float) -> None:
    assert wait_asked_for(headers) == seconds
