from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents.samples import words
from tunewright.documents.layout import MOST_SPACES, Word, lay_out

INVOICE = """\
ACME Ltd                     Invoice 12
12 High Street               2026-01-05

Lamp, black        2 x 10.50      21.00
Chair              1 x 99.00      99.00

Total                            120.00"""


def test_a_page_keeps_its_layout() -> None:
    assert lay_out([words(INVOICE)]) == INVOICE


def test_the_order_of_the_words_does_not_matter() -> None:
    shuffled = words(INVOICE)
    random.Random(0).shuffle(shuffled)
    assert lay_out([shuffled]) == INVOICE


@pytest.mark.parametrize("unit", [0.01, 1, 30])
def test_the_unit_does_not_matter(unit: float) -> None:
    scaled = [Word(w.text, w.left * unit, w.top * unit, w.right * unit, w.bottom * unit) for w in words(INVOICE)]
    assert lay_out([scaled]) == INVOICE


@pytest.mark.parametrize("degrees", [-3, -1, 1, 3])
def test_a_page_that_was_scanned_askew_keeps_its_lines(degrees: float) -> None:
    """Forty lines of one width; at 3 degrees a line sinks by two lines from its left to its right end."""
    page = "\n".join(
        f"Item {n:02} of the long list of things    {n:02}.00 each        {n * 3:03}.00" for n in range(40)
    )
    slope = math.tan(math.radians(degrees))
    askew = [replace(w, top=w.top + slope * w.left, bottom=w.bottom + slope * w.left) for w in words(page)]
    assert max(abs(slope) * w.left for w in askew) > 5
    assert [line.split() for line in lay_out([askew]).split("\n")] == [line.split() for line in page.split("\n")]


def test_words_of_other_heights_stay_in_their_line() -> None:
    page = [Word("Total", 0, 10, 50, 20), Word("120.00", 60, 2, 180, 22), Word("EUR", 190, 12, 220, 20)]
    assert lay_out([page]) == "Total 120.00 EUR"


def test_a_rule_over_several_lines_does_not_join_them() -> None:
    page = [*words("one\ntwo\nthree"), Word("|", 100, 0, 104, 80)]
    assert [line.split()[0] for line in lay_out([page]).split("\n")] == ["one", "two", "three"]


def test_a_wide_gap_becomes_a_blank_line() -> None:
    assert lay_out([[Word("a", 0, 0, 10, 10), Word("b", 0, 12, 10, 22), Word("c", 0, 60, 10, 70)]]) == "a\nb\n\nc"


def test_words_printed_over_themselves_are_read_once() -> None:
    bold = [
        replace(w, left=w.left + by, right=w.right + by) for w in words("1 1 Total 120.00") for by in (0.0, 0.4, 1.0)
    ]
    assert lay_out([bold]) == "1 1 Total 120.00"


def test_pages_are_joined_and_empty_ones_left_out() -> None:
    assert lay_out([words("one"), [], words("two"), [Word("  ", 0, 0, 1, 1)]]) == "one\n\ntwo"


def test_a_word_far_away_does_not_fill_the_memory() -> None:
    text = lay_out([[*words("one two\nthree four"), Word("far", 1e15, 0, 1e15 + 30, 20)]])
    assert text.split("\n")[0] == "one two" + " " * MOST_SPACES + "far"


def test_boxes_without_height_or_width_lose_no_word() -> None:
    page = [Word("one", 0, 0, 30, 10), Word("flat", 40, 5, 80, 5), Word("thin", 100, 0, 100, 10)]
    assert set(lay_out([page]).split()) == {"one", "flat", "thin"}
    assert lay_out([[Word("dot", 5, 5, 5, 5)]]).split() == ["dot"]


def mirrored(text: str) -> list[Word]:
    """A page whose lines begin at the right."""
    return [replace(w, left=1000 - w.right, right=1000 - w.left) for w in words(text)]


def test_right_to_left_lines_stand_in_reading_order() -> None:
    page = "חשבונית מספר 123\nסהכ                120.00"
    assert lay_out([mirrored(page)]) == page


def test_words_of_the_other_direction_are_read_the_other_way() -> None:
    """A company's English name in a Hebrew page runs from left to right, Hebrew words in an English one do not."""
    hebrew = [
        Word("חשבונית", 60, 0, 130, 10),
        Word("מספר", 15, 0, 55, 10),
        Word("לקוח", 90, 12, 130, 22),
        Word("New", 20, 12, 50, 22),
        Word("York", 55, 12, 85, 22),
        Word("5", 5, 12, 15, 22),
    ]
    assert lay_out([hebrew]) == "חשבונית מספר\nלקוח New York 5"
    english = [
        Word("say", 0, 0, 30, 10),
        Word("עולם", 35, 0, 75, 10),
        Word("שלום", 80, 0, 120, 10),
        Word("ok", 125, 0, 145, 10),
        Word("now", 150, 0, 180, 10),
    ]
    assert lay_out([english]) == "say שלום עולם ok now"


NUMBERS = st.floats(-1e6, 1e6)


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=30))
def test_no_word_is_ever_lost_wherever_it_lies(places: list[tuple[str, float, float, float, float]]) -> None:
    page = [Word(*place) for place in places]
    assert set(lay_out([page]).split()) == {part for word in page for part in word.text.split()}
