"""`tunewright monitor drift`: whether current requests and answers differ from those the model was evaluated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, ProjectArgument, console_of, print_json

if TYPE_CHECKING:
    from tunewright.monitoring.watch import Look


def drift(
    project: ProjectArgument,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle that serves. (default: the champion, else the latest)")
    ] = None,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="First make the traffic of the last four weeks the new reference.")
    ] = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Compare captures with the data that the model was evaluated on; once a day is enough. Exit code 1: a new
    alarm."""
    from tunewright import load_spec
    from tunewright.core.errors import GateFailed
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.watch import look
    from tunewright.monitoring.watch import rebase as rebase_reference

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        if rebase:
            reference = rebase_reference(spec, store, bundle)
            if not json:
                typer.echo(f"{reference.rows:,} captures are the new reference.")
        result = look(spec, store, bundle)
    if json:
        print_json(result.data)
    else:
        _print(result)
    if result.alarms:
        raise GateFailed("new drift: " + ", ".join(alarm.detail["title"] for alarm in result.alarms))


def _print(found: Look) -> None:
    from rich.table import Table
    from rich.text import Text

    from tunewright.data.shown import shortened, shown
    from tunewright.monitoring.alarms import sentence

    typer.echo(
        f"{found.model} {found.version}, whole days to {found.until:%d %B %Y %H:%M} UTC, against {found.reference}"
    )
    table = Table(header_style="bold")
    for name in ("days", "requests"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("trait", no_wrap=True)
    table.add_column("was → is")
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("")
    for window in found.windows:
        days, rows = str(window.days), f"{window.rows:,}"
        if window.waits:
            table.add_row(days, rows, "", window.waits, "", "")
        for finding in window.findings:
            change = Text(shortened(finding.said, 110))
            table.add_row(days, rows, finding.title, change, f"{finding.p:.2g}", "drift" if finding.drifted else "")
            days = rows = ""
    console = console_of(150)
    console.print(table)
    if not any(window.rows for window in found.windows):
        typer.echo("Only whole days in UTC count: today's captures count from tomorrow on.")
    if found.accuracy:
        typer.echo(f"Accuracy: {found.accuracy.summary}")
    else:
        typer.echo(f"Accuracy is not known yet: {found.reviews:,} answers are reviewed.")
    new = {alarm.number for alarm in found.alarms}
    for alarm in found.open:
        label = "NEW" if alarm.number in new else f"open since {alarm.time:%d %B}"
        typer.echo(f"{label}: {sentence(alarm)}")
        for capture in alarm.detail["examples"]:
            if capture in found.examples:
                typer.echo(f"    {capture}  {shown(found.examples[capture], 90)}")
    if found.untold:
        typer.echo(f"The webhook was not reached: {found.untold}. The next check tries again.")
