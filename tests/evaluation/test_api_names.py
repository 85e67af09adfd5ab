"""Names of APIs: none may be one of a run's own candidates, whose place in the verdict it would take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_spec
from tunewright.config.sections import OWN_CANDIDATES
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.evaluation.verdict.comparison import BATCH, CANDIDATE_LABELS


def test_the_names_that_are_taken_are_those_of_the_verdict() -> None:
    assert set(OWN_CANDIDATES) == {*CANDIDATE_LABELS, BATCH}


@pytest.mark.parametrize("name", OWN_CANDIDATES)
def test_no_api_is_called_like_an_own_candidate(name: str) -> None:
    for spec in ({"apis": [{}, {"name": name}]}, {"api": {"name": name}}, {"api": {"model": name}}):
        with pytest.raises(UserError, match=f"can't be called '{name}', .* give it another `name`"):
            make_spec(**spec)


def test_nor_is_one_of_a_price_book(tmp_path: Path) -> None:
    book = tmp_path / "prices.yaml"
    book.write_text("apis: {served: {usd_in: 1, usd_out: 1}}", "utf-8")
    with pytest.raises(UserError, match="an API can't be called 'served'"):
        price_book(book)
