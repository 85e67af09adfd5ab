"""`tunewright monitor savings`: the real savings to date."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from tunewright.monitoring.ledger import Ledger, LedgerEntry


def savings(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Show the real savings to date, month by month from served requests, and the quality of the answers.

    With gateway.yaml in place of a project, show the ledger of all its jobs (tunewright gateway ledger)."""
    from tunewright.gateway.config import is_gateway

    if is_gateway(project):
        from tunewright.cli.gateway import show_ledger

        show_ledger(project, json=json)
        return
    from tunewright import load_spec
    from tunewright.economics import price_book
    from tunewright.monitoring.ledger import ledger
    from tunewright.monitoring.store.collect import collected_store

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    with collected_store(spec) as store:
        result = ledger(spec, store, price_book(spec.price_file))
    if json:
        sums = [asdict(entry) | {"saved_usd": entry.saved_usd} for entry in (*result.months, result.total)]
        print_json(asdict(result) | {"months": sums[:-1], "total": sums[-1], "sentence": result.sentence})
    elif not result.months:
        typer.echo("There are no captures yet. Type: tunewright serve PROJECT --captures PROJECT/captures")
    else:
        _print(result)


def _print(ledger: Ledger) -> None:
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("month")
    for column in ("days", "requests", "escalated", ledger.api, "own", "saved"):
        table.add_column(column, justify="right")
    for entry in (*ledger.months, ledger.total):
        table.add_row(*_cells(entry), style="bold" if entry is ledger.total else None)
    console_of(100).print(table)
    typer.echo(f"{ledger.machine}; prices of {ledger.prices_of}\n\n{ledger.sentence}")
    for version, quality in ledger.quality.items():
        reviewed = f"{quality.right:,} of {quality.reviewed:,} reviewed answers were right"
        overall = f"of all answers {quality.accuracy.summary}" if quality.accuracy else "too few for an estimate of all"
        typer.echo(f"Version {version[:8]}: {reviewed}; {overall}")


def _cells(entry: LedgerEntry) -> list[str]:
    counts = [f"{entry.days:,.1f}", f"{entry.requests:,.0f}", f"{entry.escalated:,.0f}"]
    return [entry.name, *counts, *(f"${usd:,.2f}" for usd in (entry.api_usd, entry.own_usd, entry.saved_usd))]
