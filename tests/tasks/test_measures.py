"""The interval of a share, and which values stand in a text."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tunewright.tasks.measures import is_in, wilson_limits


@pytest.mark.parametrize(("hits", "rows"), [(0, 20), (20, 20), (81, 263), (1, 29)])
def test_the_limits_are_those_of_scipy(hits: int, rows: int) -> None:
    known = binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson_limits(hits / rows, rows, 1.959963984540054) == pytest.approx((known.low, known.high), abs=1e-12)


def test_arrays_have_arrays_of_limits() -> None:
    low, high = wilson_limits(np.array([0.0, 0.5]), np.array([10, 40]), 2.0)
    assert [(low[each], high[each]) for each in (0, 1)] == [wilson_limits(0.0, 10, 2.0), wilson_limits(0.5, 40, 2.0)]
    assert wilson_limits(0.3, 5, np.inf) == (0, 1)


@pytest.mark.parametrize(
    ("value", "text", "there"),
    [
        ("1000", "Total 1,000.00 EUR", True),
        ("1000", "zus. 1.000 EUR", True),
        ("1000", "1\u00a0000,00 kr", True),
        ("1000", "page 1 of 10, terms", False),
        ("1000", "10.00", False),
        ("1200", "in 12 days", False),
        ("5.5", "55 or 5 5", False),
        ("5.5", "je 5,50", True),
        ("7", "since 1789", False),
        ("7", "RM7, No. 007", True),
        ("12", "12.50", False),
        ("0", "10.00", False),
        ("0.5", "0,50", True),
        ("-820", "820.00 credit", True),
        ("2024", "am 18.03.2024", True),
        ("2", "rooms 1,2,3", True),
        ("5", "room 5 100 people", True),
        ("1234567", "12,345.67", False),
        ("1234567890123456789", "1234567890123456788", False),
        ("12", "１２", True),
    ],
)
def test_a_number_stands_in_a_text_as_a_number(value: str, text: str, there: bool) -> None:
    assert is_in(value, text) is there


@pytest.mark.parametrize(
    ("value", "text", "there"),
    [
        ("0301234567", "call 030 1234567", True),
        ("5551234567", "555.123.4567", True),
        ("11000", "110 00 Praha", True),
        ("20240318", "2024-03-18", True),
        ("34567", "12,345.67", False),
        ("1234", "rows 1 2 3 4", False),
    ],
)
def test_a_code_stands_in_a_text_however_it_is_parted(value: str, text: str, there: bool) -> None:
    assert is_in(value, text) is there
