"""Prints findings in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from shlex import join
from typing import TYPE_CHECKING

from tunewright.data.checks import SEVERITIES, sentence
from tunewright.data.examine import Examination
from tunewright.data.shown import shortened

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_PSEUDONYMS = "D015"
"""The finding whose fix needs a key."""
_EXAMPLES = 3
_SHOWN = 110
"""Characters of an example."""


def print_examination(
    examination: Examination, target: Sequence[str], options: Sequence[str], console: Console
) -> None:
    """Print a table of the findings, each with its reason, the scores, and one command that fixes all that a program
    can fix: a second one would find its folder taken.

    Args:
        target: the words with which the user named the data, overrides included.
        options: of that command.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    findings = examination.findings
    console.print(Text(sentence(examination.rows, findings), style="bold"))
    console.print(Text(", ".join(f"{name} {count:,} rows" for name, count in examination.rows.items())))
    table = Table(show_lines=True, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("code", min_width=7)
    table.add_column("finding", overflow="fold", ratio=3)
    table.add_column("reason and fix", overflow="fold", ratio=2)
    for finding in findings:
        description = Text(finding.what)
        for place in finding.examples[:_EXAMPLES]:
            if place.text.rstrip(".") not in finding.what:
                where = place.where.rsplit("/", 1)[-1]
                description.append(f"\n{where} {shortened(place.text, _SHOWN)}", style="dim")
        advice = Text(f"{finding.kind.why} {finding.fix}")
        if finding.kind.automatic_fix:
            advice.append(f"\nA program {finding.kind.automatic_fix}.", style="bold")
        table.add_row(
            Text(f"{finding.code}\n{finding.severity}", style=_COLOURS[finding.severity]), description, advice
        )
    console.print(table if findings else "No findings.")
    counts = Counter(finding.severity for finding in findings)
    totals = (f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}" for severity in SEVERITIES)
    console.print(Text(", ".join(totals)))
    marks = (f"{name} {'not measured' if score is None else score}" for name, score in examination.scores.items())
    console.print(Text("scores of 100: " + ", ".join(marks)))
    if codes := sorted({finding.code for finding in findings if finding.kind.automatic_fix}):
        key = ["--key-file", "pii.key"] if _PSEUDONYMS in codes else []
        words = ["tunewright", "data", "fix", *target, "--only", ",".join(codes), *key, *options]
        console.print(Text(f"Fix: {join(words)}", style="bold"), soft_wrap=True)
        if key:
            line = "head -c 32 /dev/urandom > pii.key && chmod 600 pii.key"
            console.print(Text(f"pii.key is a secret of your own. If there is none yet: {line}"), soft_wrap=True)
