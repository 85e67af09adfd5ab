from __future__ import annotations

import pytest

from tunewright.core.errors import UserError
from tunewright.data.times import instants_of
from tunewright.tasks import Example, Meta


def at(*times: str) -> list[Example]:
    return [
        Example.of("text", "billing", Meta(id=str(n), source=f"d.jsonl:{n}", time=time))
        for n, time in enumerate(times, 1)
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-01-31", "2026-02-01"),
        ("20260131", "20260201"),
        ("2026-01-31", "2026-01-31T00:00:01"),
        ("2026-01-31 10:00", "2026-01-31T10:00:00.5"),
        ("2026-01-31T10:00+02:00", "2026-01-31T09:00Z"),
        ("2026-01-31T23:30:00-05:00", "2026-02-01T05:00:00+00:00"),
        ("1700000000", "1700000000.5"),
        ("999999999", "1000000000"),
        ("1700000000000", "1700000000001"),
        (" 2026-01-31 ", "2026-02-01"),
    ],
)
def test_later_times_give_later_instants(earlier: str, later: str) -> None:
    instants = instants_of(at(later, earlier))
    assert instants[earlier] < instants[later]


def test_all_forms_of_a_time_give_the_same_instant() -> None:
    seconds = {
        next(iter(instants_of(at(time)).values()))
        for time in ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "1700000000", "1700000000000")
    }
    assert seconds == {1700000000.0}


@pytest.mark.parametrize(
    "unread",
    [
        "",
        "yesterday",
        "31.01.2026",
        "01/31/2026",
        "2026",
        "12",
        "-1700000000",
        "202601310930",
        "20260131093000",
        "2026-13-01",
        "2026-02-30",
        "NaN",
        "1e9",
        "1700000000000000",
        "٢٠٢٦-٠١-٣١",
    ],
)
def test_values_that_are_no_times_are_refused_with_first_place_and_count(unread: str) -> None:
    with pytest.raises(UserError, match=r"d\.jsonl:2: 2 of 3 times can't be read"):
        instants_of(at("2026-01-31", unread, unread))


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("2026-01-31", "1700000000"),
        ("1700000000", "1700000000000"),
        ("2026-01-31T10:00", "2026-01-31T10:00Z"),
        ("2026-01-31T10:00Z", "2026-01-31"),
    ],
)
def test_times_of_several_kinds_are_refused(usual: str, other: str) -> None:
    with pytest.raises(UserError, match=r"d\.jsonl:3: The times are of several kinds: .*the first of 1 that differ"):
        instants_of(at(usual, usual, other))


def test_an_error_shows_no_value() -> None:
    with pytest.raises(UserError) as error:
        instants_of(at("1980-05-17 Ada"))
    assert "Ada" not in str(error.value)
