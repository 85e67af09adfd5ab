"""`tunewright monitor collect_corrections`: what people said becomes a new version of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    print_json,
)
from tunewright.core.errors import GateFailed

if TYPE_CHECKING:
    from tunewright.data.examine import Examination
    from tunewright.monitoring.corrections import NewCorrections

_SHOWN = 3
"""Examples of each reason."""


def corrections(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            help="A source whose rows were held back, to be taken after all; again for more.",
            metavar="SOURCE",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken, and write nothing.")] = False,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Make data of the reviews: corrections/N beside the spec, which is read behind data.train from then on."""
    from dataclasses import asdict

    from tunewright import api, load_spec
    from tunewright.data.examine import load_examination
    from tunewright.monitoring.corrections import collect_corrections
    from tunewright.monitoring.store.collect import collected_store

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    with collected_store(spec) as store:
        collected = collect_corrections(spec, store, include=include or (), dry_run=dry_run)
    examination = load_examination(api.check(spec, runs=runs)) if collected.number else None
    if json:
        print_json(
            {
                **asdict(collected),
                "reasons": collected.reasons,
                "findings": [asdict(each) for each in examination.findings] if examination else None,
            }
        )
    else:
        _print(collected, dry_run=dry_run)
        if examination:
            _print_findings(examination, str(project))
    errors = [each.code for each in examination.findings if each.severity == "error"] if examination else []
    if errors:
        raise GateFailed(f"The data can't be trained on: {', '.join(errors)}")


def _print(collected: NewCorrections, *, dry_run: bool) -> None:
    from tunewright.data.shown import shown
    from tunewright.monitoring.corrections import REMEDIES

    would = "would be " if dry_run else ""
    labels = ", ".join(f"{shown(label)} {count}" for label, count in collected.answers.items())
    typer.echo(f"{collected.rows} rows {would}added{f': {labels}' if labels else ''}")
    if collected.recovered:
        typer.echo(f"{collected.recovered} reviews were marked that an interrupted growth had written down")
    if collected.retracted:
        typer.echo(
            f"! {collected.retracted} rows of earlier versions rest on reviews that were undone since. To let the "
            f"reviews decide anew, move {collected.folder} away and type this again."
        )
    for pull in collected.pulls:
        typer.echo(f"! {pull}")
    for label, count in collected.wanted.items():
        typer.echo(f"! {count} captures were given the label '{shown(label)}', which the spec does not have")
    for reason, count in collected.reasons.items():
        typer.echo(f"\n{count} held back: {reason}. {REMEDIES[reason]}")
        for each in [each for each in collected.rejected if each.reason == reason][:_SHOWN]:
            details = "; ".join(filter(None, [each.detail, each.source]))
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}{f'  ({details})' if details else ''}")
    if collected.contradicted:
        typer.echo(
            f"\n{len(collected.contradicted)} of the rows are contradicted by older ones, which you should mend:"
        )
        for each in collected.contradicted[:_SHOWN]:
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}  ({each.detail})")
    if collected.number:
        typer.echo(f"\nversion {collected.number}: {collected.folder / str(collected.number)}")
        typer.echo(f"SHA-256 {collected.sha256} pins this version and all before it")


def _print_findings(examination: Examination, project: str) -> None:
    """What the data doctor says of the grown data, notes aside."""
    found = [f"{each.code} {each.what}" for each in examination.findings if each.severity != "note"]
    rows = ", ".join(f"{name} {count}" for name, count in examination.rows.items())
    typer.echo(f"\nThe data now: {rows}; {'; '.join(found) or 'no findings'}")
    typer.echo(f"All of it: tunewright data check {project}   To train on it: tunewright run {project}")
