"""`tunewright models`: the catalogue of base models and the price book."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import JsonOption, print_json
from tunewright.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from tunewright.assess import PriceBook

app = typer.Typer(help="Base models that Tunewright knows by name, and prices.", no_args_is_help=True)


@app.command()
def ls(json: JsonOption = False) -> None:
    """List the base models."""
    from tunewright.models.catalogue import catalogue

    entries = catalogue()
    if json:
        print_json({name: entry.model_dump() for name, entry in entries.items()})
        return
    typer.echo(f"{'name':<18} {'B params':>8} {'context':>8}  {'licence':<20} hub id")
    for name, e in entries.items():
        typer.echo(f"{name:<18} {e.parameters:>8.2f} {e.context:>8}  {e.licence:<20} {e.hub}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A catalogue name.")], json: JsonOption = False) -> None:
    """Show one base model."""
    from tunewright.models.catalogue import catalogue
    from tunewright.models.resolve import cached_folder

    entry = catalogue().get(name)
    if entry is None:
        raise UserError(
            f"The catalogue has no '{name}'.", fix=did_you_mean(name, catalogue(), "See: tunewright models ls")
        )
    values = {**entry.model_dump(exclude_none=True), "cached": cached_folder(name)}
    if json:
        print_json(values)
        return
    for key, value in values.items():
        typer.echo(f"{key:<12} {value}")


@app.command()
def prices(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask Azure's public price list, and write a price book of your own.")
    ] = False,
    region: Annotated[str, typer.Option(help="The Azure region to ask about.")] = "eastus",
    out: Annotated[Path, typer.Option(help="Where the price book is written to.")] = Path("prices.yaml"),
    json: JsonOption = False,
) -> None:
    """Show the price book: machines by the hour, APIs by the million tokens."""
    from tunewright.assess import price_book

    book = price_book()
    if refresh:
        book = _refreshed(book, region, out)
    if json:
        print_json(book.model_dump())
        return
    typer.echo(f"USD, {book.as_of}, {book.source}")
    for name, machine in book.machines.items():
        typer.echo(f"{name:<26} {machine.usd_per_hour:>8.3f} an hour, {machine.cores} cores")
    for name, api in book.apis.items():
        cached = f", {api.usd_cached:.3f} cached" if api.usd_cached is not None else ""
        typer.echo(f"{name:<26} {api.usd_in:>8.2f} in{cached}, {api.usd_out:.2f} out per million tokens")


def _refreshed(book: PriceBook, region: str, out: Path) -> PriceBook:
    from ruamel.yaml import YAML

    from tunewright.assess import price_book
    from tunewright.assess.retail import refreshed

    if out.exists():
        raise UserError("This file is there already.", where=out, fix="Choose another: --out NAME.yaml")
    made, missing = refreshed(book, region)
    with out.open("w", encoding="utf-8") as stream:
        YAML().dump(made, stream)
    typer.echo(f"Written to {out}; use it with `prices: {out.name}` in the spec.", err=True)
    if missing:
        typer.echo(f"Not offered in {region}, so left as built in: {', '.join(missing)}", err=True)
    return price_book(out)
