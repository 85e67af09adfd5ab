"""`tunewright data judge`: leave out training rows that a large model gives a low mark."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    arguments,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from tunewright.config import Spec
    from tunewright.evaluation.marks.filtering import JudgedData

_LETTERS = 110
"""Characters of a text in the list of the worst rows."""


def judge(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the answers, tokens and cost; ask nothing.")
    ] = False,
    most: Annotated[
        float, typer.Option("--max-left-out", min=0, max=1, help="The largest share of rows that may be left out.")
    ] = 0.5,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Go on even if the judge agrees with people no more than by chance.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the marks and the copy. (default: judged/ beside the spec)"),
    ] = None,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Have a large model mark the training answers, and leave out those below a mark in a new file."""
    from tunewright import load_spec
    from tunewright.evaluation.marks.filtering import judge_of, leave_out, marking_forecast
    from tunewright.project import Project

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    settings, home = judge_of(spec), Project(spec.folder, runs).runs
    if dry_run:
        found = marking_forecast(spec, home)
        if json:
            print_json(asdict(found))
            return
        thinking = ", plus its thinking" if found.reasons else ""
        typer.echo(
            f"{settings.model} has {found.questions:,} different answers to mark, {found.kept:,} of them marked "
            f"before. The other {found.questions - found.kept:,} take about {found.prompt_tokens:,} tokens and "
            f"${found.usd:,.4f}{thinking}. The budget is ${settings.budget_usd:,.2f}."
        )
        if found.personal:
            words = arguments(project, overrides, allow_code=allow_code)
            typer.echo(
                f"{found.personal:,} rows hold personal data, which would go to {settings.url}. First give them "
                f"stand-ins: tunewright data fix {join(words)} --only D015"
            )
        return
    output = out or spec.folder / "judged"
    judged, refusal = leave_out(spec, home, output, most=most, unproven=unproven)
    if json:
        print_json({"folder": output, **asdict(judged)})
    else:
        _print(judged)
    if refusal:
        raise refusal
    if not json:
        typer.echo(f"Every mark: {output / 'marks.jsonl'}")
        _print_next(spec, output, project)


def _print(judged: JudgedData) -> None:
    from rich.table import Table

    from tunewright.data.shown import shortened

    table = Table(header_style="bold", box=None)
    for name in ("mark", "rows", "share", "left out below it"):
        table.add_column(name, justify="right")
    lower = 0
    for mark, count in judged.marks.items():
        chosen = " *" if mark == judged.least_mark else "  "
        share, left_out = (f"{each / judged.rows:.1%}" for each in (count, lower))
        table.add_row(f"{mark}{chosen}", f"{count:,}", share, left_out)
        lower += count
    console_of(60).print(table)
    typer.echo(
        f"{judged.model} puts {judged.left_out:,} of {judged.rows:,} rows below {judged.least_mark}: "
        f"{judged.share:.1%}. Its marks cost ${judged.usd:,.4f}."
    )
    if judged.unread:
        typer.echo(f"It gave {judged.unread:,} rows no mark: refused, too long for it, or none of 1 to 5. They stay.")
    for row in judged.worst:
        typer.echo(f"  {row.mark}  {row.where}  {shortened(row.text, _LETTERS)} → {shortened(row.answer, _LETTERS)}")
    for sentence in judged.told:
        typer.echo(sentence)
    if judged.unreadable:
        typer.echo(f"{judged.unreadable:,} rows can't be read and are not in the copy; quarantine/ has them.")


def _print_next(spec: Spec, output: Path, project: Path) -> None:
    copy = output.resolve() / "train.jsonl"
    named = copy.relative_to(spec.folder) if copy.is_relative_to(spec.folder) else copy
    form = ", and form: chat" if spec.data.form not in (None, "chat") else ""
    typer.echo(
        f"Rows below the mark have weight 0 in the copy. To train without them, write into {project}, under data: "
        f"train: {named}{form}"
    )
