"""Writes the table of all default limits into docs/security.md: python tools/limits.py"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tunewright.core import limits

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
_BETWEEN = re.compile(r"(?<=<!-- limits -->\n).*?(?=<!-- /limits -->)", re.DOTALL)


def rows() -> Iterator[str]:
    """The table's lines, a table for each section of the module."""
    source = Path(limits.__file__).read_text("utf-8")
    sections = {number: line[2:] for number, line in enumerate(source.splitlines(), 1) if line.startswith("# ")}
    body = ast.parse(source).body
    told = 0
    for named, said in pairwise(body):
        if not (isinstance(named, ast.Assign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)):
            continue
        (target,) = named.targets
        assert isinstance(target, ast.Name)
        if (section := max((number for number in sections if number < named.lineno), default=0)) != told:
            told = section
            yield f"\n**{sections[section]}**\n\n| limit | | |\n|---|---|---|\n"
        reason = " ".join(str(said.value.value).split()).replace("|", "\\|")
        yield f"| `{target.id}` | {shown(getattr(limits, target.id))} | {reason} |\n"


def shown(value: float) -> str:
    """A number as people write it; powers of 1,024 in their units."""
    for power, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if isinstance(value, int) and value >= 1 << power and value % (1 << power) == 0:
            return f"{value >> power:,} {unit}"
    return f"{value:,g}" if value < 1e6 else f"{value:,.0f}"


def page() -> str:
    """docs/security.md with the table as it is now."""
    table = "".join(rows()) + "\n"
    return _BETWEEN.sub(lambda _: table, PAGE.read_text("utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
