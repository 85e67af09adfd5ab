"""The page on security tells every default limit as it is."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.limits import PAGE, page, shown

from tunewright.core import limits


def test_the_page_has_every_limit() -> None:
    assert page() == PAGE.read_text("utf-8"), "Type: python tools/limits.py"
    for name in vars(limits):
        assert not name.isupper() or f"| `{name}` |" in page()


def test_every_limit_says_why() -> None:
    body = ast.parse(Path(limits.__file__).read_text("utf-8")).body
    for named, said in zip(body, [*body[1:], None], strict=True):
        if isinstance(named, ast.Assign):
            assert isinstance(said, ast.Expr), f"line {named.lineno} has no reason"


def test_numbers_are_told_as_people_write_them() -> None:
    assert [shown(value) for value in (64 << 20, 10.0, 100_000, 1e9, 1 << 17, 30)] == [
        "64 Mi",
        "10",
        "100,000",
        "1,000,000,000",
        "128 Ki",
        "30",
    ]
