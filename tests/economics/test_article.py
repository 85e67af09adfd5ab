"""docs/economics.md and its picture are what bench/economics.py makes of today's price book."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
AGAIN = "type: python bench/economics.py, and put its tables into docs/economics.md"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module("economics")


@pytest.mark.slow
def test_the_tables_of_the_docs_are_those_that_it_prints(
    bench: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    bench.main()
    first, *tables = capsys.readouterr().out.strip().split("\n\n")
    text = (DOCS / "economics.md").read_text("utf-8")
    assert len(tables) == 4
    assert all(table in text for table in tables), AGAIN
    assert "$304 a month" in first
    assert (tmp_path / "docs" / "article.svg").read_text("utf-8") == (DOCS / "article.svg").read_text("utf-8"), AGAIN


def test_a_model_pays_from_where_it_stays_cheaper_on(bench: ModuleType) -> None:
    api = {volume: volume / 1000 for volume in bench.VOLUMES}
    flat = [500.0 for _ in bench.VOLUMES]
    assert bench.pays_from(flat, api.__getitem__) == "500 k"
    assert bench.pays_from(flat, api.__getitem__, 9500.0) == "11 M"
    dearer_again = [*flat[:-1], 2e6]
    assert bench.pays_from(dearer_again, api.__getitem__) == "never"
    assert bench.pays_from([0.5 for _ in flat], api.__getitem__) == "always"
    assert bench.pays_from([None, *flat[1:]], api.__getitem__) == "500 k"
