"""`tunewright monitor savings`: what was really saved to date."""

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
    """What was really saved to date, from what was served: month by month, and how good the answers were."""
    from tunewright import load_spec
    from tunewright.economics import price_book
    from tunewright.monitoring.ledger import ledger
    from tunewright.monitoring.store.collect import collected_store

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    with collected_store(spec) as store:
        found = ledger(spec, store, price_book(spec.price_file))
    if json:
        sums = [asdict(entry) | {"saved_usd": entry.saved_usd} for entry in (*found.months, found.total)]
        print_json(asdict(found) | {"months": sums[:-1], "total": sums[-1], "sentence": found.sentence})
    elif not found.months:
        typer.echo("Nothing was captured yet. Type: tunewright serve PROJECT --captures captures/")
    else:
        _print(found)


def _print(found: Ledger) -> None:
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("month")
    for column in ("days", "requests", "escalated", found.api, "own", "saved"):
        table.add_column(column, justify="right")
    for entry in (*found.months, found.total):
        table.add_row(*_cells(entry), style="bold" if entry is found.total else None)
    console_of(100).print(table)
    typer.echo(f"{found.machine}; prices of {found.prices_of}\n\n{found.sentence}")
    for version, judged in found.quality.items():
        reviewed = f"{judged.right:,} of {judged.reviewed:,} reviewed answers were right"
        all_of_them = f"of all {judged.accuracy.told}" if judged.accuracy else "too few to tell of all"
        typer.echo(f"Version {version[:8]}: {reviewed}; {all_of_them}")


def _cells(entry: LedgerEntry) -> list[str]:
    counts = [f"{entry.days:,.1f}", f"{entry.requests:,.0f}", f"{entry.escalated:,.0f}"]
    return [entry.name, *counts, *(f"${usd:,.2f}" for usd in (entry.api_usd, entry.own_usd, entry.saved_usd))]
