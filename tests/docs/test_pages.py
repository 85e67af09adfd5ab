"""What holds for every page of the documentation: how it begins, and that the files it names exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, names
from tests.docs.test_commands import REFERENCE

BEGINNING = re.compile(r"# .+\n\nAfter reading this page you ")
FOLDERS = "tests|bench|src|tools|infra|integrations|locks"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=names)
def test_a_page_begins_with_what_its_reader_can_do_then(page: Path) -> None:
    assert BEGINNING.match(page.read_text("utf-8"))


@pytest.mark.parametrize("made", REFERENCE.PAGES.values(), ids=REFERENCE.PAGES)
def test_a_page_of_the_reference_does_too(made: Callable[[], str]) -> None:
    assert BEGINNING.match(made())


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    named = set(re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w)", text))
    known = {file.name for file in (REPOSITORY / "tests").rglob("test_*.py")}
    missing = [name for name in named if not (REPOSITORY / name).exists() and not name.startswith("bench/runs")]
    missing += [name for name in re.findall(r"`(test_\w+\.py)", text) if name not in known]
    assert not sorted(missing)


def test_what_the_page_on_data_says_of_the_svm_is_the_readmes_row() -> None:
    row = re.search(
        r"│ TF-IDF \+ linear SVM +│ +([\d.]+) .*?│ +([\d.]+) ", (REPOSITORY / "README.md").read_text("utf-8")
    )
    page = " ".join((REPOSITORY / "docs" / "data.md").read_text("utf-8").split())
    named = re.search(
        r"the ([\d.]+) % that a linear SVM reaches on it .*?`unseen_phrasing` it reaches ([\d.]+) %", page
    )
    assert row
    assert named
    assert named.groups() == row.groups()
