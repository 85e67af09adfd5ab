"""A judged verdict as a Markdown comment. Each run updates the same comment, so it begins with a hidden mark."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunewright.gate.judge import Gate

_LONGEST = 2_000
"""Characters of one text; GitHub takes 65,536 in a comment, Azure DevOps 150,000."""
_ROWS = 40
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+~|$])")
_BEGINNING = re.compile(r"^(\d*)(\.(?=\s|$)|[-=])")
"""The beginning of a line that makes it a list or a rule."""
_CALLS = re.compile(r"([@#!]|://|\bwww\.|\bGH-)(?=\S)", re.IGNORECASE)
"""Text that a site would turn into a mention, a reference or a link."""
_BREAK = "\u200b"
"""A zero-width space."""


def mark(name: str) -> str:
    """The line that marks a project's comment. Neither GitHub nor Azure DevOps shows it: for both it is the definition
    of a link."""
    return f"[//]: <> (tunewright-gate {name})"


def markdown(judged: Gate) -> str:
    """A judged verdict as Markdown that mentions nobody and links nowhere, whatever its texts hold."""
    missed = sum(not target.met for target in judged.targets)
    targets = f"{missed} of {len(judged.targets)} targets missed" if missed else "every target met"
    head = f"### {'✅' if judged.passed else '❌'} {plain(judged.name)}: {plain(judged.decision)} · {targets}"
    rows = [("✅" if target.met else "❌", target.name, target.found) for target in judged.targets]
    rows.sort(key=lambda row: row[0] == "✅")
    if len(rows) > _ROWS:
        rows = [*rows[:_ROWS], ("", "…", f"{len(rows) - _ROWS} more")]
    parts = [
        mark(judged.name),
        head,
        plain(judged.sentence),
        _table(("", "target", "found"), rows),
    ]
    if judged.lines:
        parts.append(_table(("for the person who pays", ""), judged.lines))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [head, tuple("---" for _ in head), *(tuple(map(plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def plain(text: str) -> str:
    """Markdown that shows a text as it is, in a line or a table's cell."""
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _BEGINNING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text))
    return _CALLS.sub(rf"\1{_BREAK}", text)
