"""`tunewright monitor drift`: whether what is asked and answered now differs from what the model was judged on."""

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
        Path | None, typer.Option(help="The bundle that serves. (default: the champion, or what the last run made)")
    ] = None,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="First take the last four weeks' traffic for what is usual from now on.")
    ] = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Compare what was captured with what the model was judged on; exit code 1 on a new alarm. Once a day is enough."""
    from tunewright import load_spec
    from tunewright.core.errors import GateFailed
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.watch import look
    from tunewright.monitoring.watch import rebase as take_for_usual

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        if rebase:
            reference = take_for_usual(spec, store, bundle)
            if not json:
                typer.echo(f"{reference.rows:,} captures are the reference from now on.")
        found = look(spec, store, bundle)
    if json:
        print_json(found.data)
    else:
        _show(found)
    if found.alarms:
        raise GateFailed("new drift: " + ", ".join(alarm.detail["title"] for alarm in found.alarms))


def _show(found: Look) -> None:
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
            said = Text(shortened(finding.said, 110))
            table.add_row(days, rows, finding.title, said, f"{finding.p:.2g}", "drift" if finding.drifted else "")
            days = rows = ""
    console = console_of(150)
    console.print(table)
    if not any(window.rows for window in found.windows):
        typer.echo("Whole days in UTC are read: what is captured today counts from tomorrow on.")
    if found.accuracy:
        typer.echo(f"Accuracy: {found.accuracy.told}")
    else:
        typer.echo(f"Accuracy is not told yet: {found.reviews:,} answers are reviewed.")
    new = {alarm.number for alarm in found.alarms}
    for alarm in found.open:
        label = "NEW" if alarm.number in new else f"open since {alarm.time:%d %B}"
        typer.echo(f"{label}: {sentence(alarm)}")
        for capture in alarm.detail["examples"]:
            if capture in found.examples:
                typer.echo(f"    {capture}  {shown(found.examples[capture], 90)}")
    if found.untold:
        typer.echo(f"The webhook was not reached: {found.untold}. It is tried again at the next check.")
