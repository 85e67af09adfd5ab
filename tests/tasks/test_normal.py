"""Normal forms are Unicode's own, but for runs of marks that no text has."""

from __future__ import annotations

import sys
import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_linear_time import MANY, ends_in_time
from tunewright.tasks.normal import _MARKS, normalised

marks = st.text(st.sampled_from("a\u0301\u0323\u0344\u0f77\u0327é한\u1e69"), max_size=200)


@given(text=st.text(st.characters(codec="utf-8")))
def test_a_usual_text_has_unicode_s_own_form(text: str) -> None:
    assert normalised("NFKC", text) == unicodedata.normalize("NFKC", text)


@given(text=marks)
def test_a_form_does_not_change_any_more(text: str) -> None:
    for form in ("NFC", "NFKC"):
        assert normalised(form, normalised(form, text)) == normalised(form, text)


@pytest.mark.parametrize("mark", ["\u0301\u0323", "\u0344", "\u0f77"])
@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_a_long_run_of_marks_takes_no_time(form: Literal["NFC", "NFKC"], mark: str) -> None:
    assert ends_in_time(lambda: normalised(form, "a" + mark * MANY))


def test_thirty_marks_in_a_row_stay_together() -> None:
    run = "q" + "\u0323" * 30
    assert normalised("NFC", run) == run
    assert normalised("NFC", f"{run}\u0323") == f"{run}\u034f\u0323"


def test_all_marks_are_known() -> None:
    assert all(code in _MARKS for code in range(sys.maxunicode) if unicodedata.combining(chr(code)))
