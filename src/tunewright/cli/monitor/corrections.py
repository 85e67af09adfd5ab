"""`tunewright monitor grow`: what people said becomes a new version of the data."""

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


def grow(
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
    from tunewright.monitoring.corrections import grow as grow_data
    from tunewright.monitoring.store.collect import collected_store

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    with collected_store(spec) as store:
        grown = grow_data(spec, store, include=include or (), dry_run=dry_run)
    examination = load_examination(api.check(spec, runs=runs)) if grown.number else None
    if json:
        print_json(
            {
                **asdict(grown),
                "reasons": grown.reasons,
                "findings": [asdict(each) for each in examination.findings] if examination else None,
            }
        )
    else:
        _print(grown, dry_run=dry_run)
        if examination:
            _print_findings(examination, str(project))
    errors = [each.code for each in examination.findings if each.severity == "error"] if examination else []
    if errors:
        raise GateFailed(f"The data can't be trained on: {', '.join(errors)}")


def _print(grown: NewCorrections, *, dry_run: bool) -> None:
    from tunewright.data.shown import shown
    from tunewright.monitoring.corrections import REMEDIES

    would = "would be " if dry_run else ""
    labels = ", ".join(f"{shown(label)} {count}" for label, count in grown.answers.items())
    typer.echo(f"{grown.rows} rows {would}added{f': {labels}' if labels else ''}")
    if grown.recovered:
        typer.echo(f"{grown.recovered} reviews were marked that an interrupted growth had written down")
    if grown.retracted:
        typer.echo(
            f"! {grown.retracted} rows of earlier versions rest on reviews that were undone since. To let the "
            f"reviews decide anew, move {grown.folder} away and type this again."
        )
    for pull in grown.pulls:
        typer.echo(f"! {pull}")
    for label, count in grown.wanted.items():
        typer.echo(f"! {count} captures were given the label '{shown(label)}', which the spec does not have")
    for reason, count in grown.reasons.items():
        typer.echo(f"\n{count} held back: {reason}. {REMEDIES[reason]}")
        for each in [each for each in grown.held if each.reason == reason][:_SHOWN]:
            details = "; ".join(filter(None, [each.detail, each.source]))
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}{f'  ({details})' if details else ''}")
    if grown.contradicted:
        typer.echo(f"\n{len(grown.contradicted)} of the rows are contradicted by older ones, which you should mend:")
        for each in grown.contradicted[:_SHOWN]:
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}  ({each.detail})")
    if grown.number:
        typer.echo(f"\nversion {grown.number}: {grown.folder / str(grown.number)}")
        typer.echo(f"SHA-256 {grown.sha256} pins this version and all before it")


def _print_findings(examination: Examination, project: str) -> None:
    """What the data doctor says of the grown data, notes aside."""
    found = [f"{each.code} {each.what}" for each in examination.findings if each.severity != "note"]
    rows = ", ".join(f"{name} {count}" for name, count in examination.rows.items())
    typer.echo(f"\nThe data now: {rows}; {'; '.join(found) or 'no findings'}")
    typer.echo(f"All of it: tunewright data check {project}   To train on it: tunewright run {project}")
