"""A judged verdict as a Markdown comment: the same one is written anew by each run, so it begins with a hidden mark."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunewright.gate.judge import Gate

_LONGEST = 2_000
"""Characters of one text; GitHub takes 65,536 in a comment, Azure DevOps 150,000."""
_ROWS = 40
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+~|$])")
_BEGINNING = re.compile(r"^(\d*)(\.(?=\s|$)|[-=])")
"""What makes a list or a rule of a line."""
_CALLS = re.compile(r"([@#!]|://|\bwww\.|\bGH-)(?=\S)", re.IGNORECASE)
"""What a site would make a mention, a reference or a link of."""
_BREAK = "\u200b"
"""A space of no width."""


def mark(name: str) -> str:
    """The line by which a project's comment is found again. Neither GitHub nor Azure DevOps shows it: for both it is
    the definition of a link."""
    return f"[//]: <> (tunewright-gate {name})"


def comment(found: Gate) -> str:
    """A judged verdict as Markdown that calls nobody and links nowhere, whatever its texts hold."""
    missed = sum(not target.met for target in found.targets)
    targets = f"{missed} of {len(found.targets)} targets missed" if missed else "every target met"
    head = f"### {'✅' if found.passed else '❌'} {plain(found.name)}: {plain(found.decision)} · {targets}"
    rows = [("✅" if target.met else "❌", target.name, target.found) for target in found.targets]
    rows.sort(key=lambda row: row[0] == "✅")
    if len(rows) > _ROWS:
        rows = [*rows[:_ROWS], ("", "…", f"{len(rows) - _ROWS} more")]
    parts = [
        mark(found.name),
        head,
        plain(found.sentence),
        _table(("", "target", "found"), rows),
    ]
    if found.lines:
        parts.append(_table(("for the one who pays", ""), found.lines))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [head, tuple("---" for _ in head), *(tuple(map(plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def plain(text: str) -> str:
    """Text as Markdown that shows just that text, in a line or a table's cell."""
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _BEGINNING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text))
    return _CALLS.sub(rf"\1{_BREAK}", text)
