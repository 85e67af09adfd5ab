"""`tunewright monitor corrections`: turn reviews into a new version of the corrections."""

from __future__ import annotations

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
    print_json,
)
from tunewright.core.errors import GateFailed

if TYPE_CHECKING:
    from tunewright.data.examine import Examination
    from tunewright.monitoring.corrections import NewCorrections

_SHOWN = 3
"""Examples printed for each reason."""


def corrections(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            help="A source whose rejected rows to accept after all; repeatable.",
            metavar="SOURCE",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be added; write nothing.")] = False,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Turn reviews into training data: corrections/N beside the spec, which later runs append to data.train."""
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
            _print_findings(examination, arguments(project, overrides, runs=runs, allow_code=allow_code))
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
        typer.echo(f"{collected.recovered} reviews of an interrupted command were marked as used")
    if collected.retracted:
        typer.echo(
            f"! {collected.retracted} rows of earlier versions rest on reviews that people have undone since. To start "
            f"again from the reviews, move {collected.folder} away and repeat this command."
        )
    for pull in collected.pulls:
        typer.echo(f"! {pull}")
    for label, count in collected.wanted.items():
        typer.echo(f"! Reviewers gave {count} captures the label '{shown(label)}', which the spec does not have")
    for reason, count in collected.reasons.items():
        typer.echo(f"\n{count} rejected: {reason}. {REMEDIES[reason]}")
        for each in [each for each in collected.rejected if each.reason == reason][:_SHOWN]:
            details = "; ".join(filter(None, [each.detail, each.source]))
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}{f'  ({details})' if details else ''}")
    if collected.contradicted:
        typer.echo(f"\nOlder rows contradict {len(collected.contradicted)} of the new ones; fix the older rows:")
        for each in collected.contradicted[:_SHOWN]:
            typer.echo(f"  {shown(each.text, 70)} → {shown(each.answer, 50)}  ({each.detail})")
    if collected.number:
        typer.echo(f"\nversion {collected.number}: {collected.folder / str(collected.number)}")
        typer.echo(f"SHA-256 {collected.sha256} pins this version and all before it")


def _print_findings(examination: Examination, words: list[str]) -> None:
    """Print the findings on the extended data, notes excepted.

    Args:
        words: the arguments of a further command on the project.
    """
    findings = [f"{each.code} {each.what}" for each in examination.findings if each.severity != "note"]
    rows = ", ".join(f"{name} {count}" for name, count in examination.rows.items())
    typer.echo(f"\nThe data now: {rows}; {'; '.join(findings) or 'no findings'}")
    typer.echo(
        f"All findings: tunewright data check {join(words)}   To train on the data: tunewright run {join(words)}"
    )
