"""`tunewright models`: the catalogue of base models and the price book."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import JsonOption, console_of, print_json
from tunewright.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from tunewright.economics import PriceBook
    from tunewright.economics.prices import ApiPrice

_NOT_OF = {"encoder": {"template", "remote_code"}, "decoder": {"embeddings"}}
"""Fields of the catalogue that this kind of base model does not have."""

app = typer.Typer(help="Show the catalogue of base models and the price book.", no_args_is_help=True)


@app.command()
def ls(json: JsonOption = False) -> None:
    """List the base models of the catalogue, and the linear model, which needs none."""
    from tunewright.models.catalogue import catalogue
    from tunewright.models.linear_model import LINEAR

    entries = catalogue()
    if json:
        print_json({name: entry.model_dump() for name, entry in entries.items()})
        return
    width = max(map(len, entries))
    typer.echo(f"{'name':<{width}} kind    {'B params':>8} {'context':>8}  {'licence':<20} hub id")
    typer.echo(f"{LINEAR:<{width}} linear  fitted to your rows in seconds, from nothing; chooses labels only")
    for name, e in entries.items():
        typer.echo(f"{name:<{width}} {e.kind} {e.parameters:>8.2f} {e.context:>8}  {e.licence:<20} {e.hub}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A catalogue name.")], json: JsonOption = False) -> None:
    """Show one base model."""
    from tunewright.models.catalogue import catalogue
    from tunewright.models.naming import cached_folder

    entry = catalogue().get(name)
    if entry is None:
        raise UserError(
            f"The catalogue has no '{name}'.", fix=did_you_mean(name, catalogue(), "See: tunewright models ls")
        )
    values = {**entry.model_dump(exclude_none=True, exclude=_NOT_OF[entry.kind]), "cached": cached_folder(name)}
    if json:
        print_json(values)
        return
    for key, value in values.items():
        typer.echo(f"{key:<12} {value}")


@app.command()
def prices(
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Fetch today's prices from Azure and genai-prices, and write a price book."),
    ] = False,
    region: Annotated[str, typer.Option(help="With --refresh: the Azure region.")] = "eastus",
    out: Annotated[Path, typer.Option(help="With --refresh: the file to write.")] = Path("prices.yaml"),
    json: JsonOption = False,
) -> None:
    """Show the price book: machines per hour, APIs per million tokens, and each API's end of life."""
    from tunewright.economics import price_book
    from tunewright.economics.lifetimes import stale, today

    book = price_book()
    if refresh:
        book = _refreshed(book, region, out)
    warning = stale(book, today())
    if json:
        print_json({**book.model_dump(mode="json"), "age_days": book.age_days(today())})
    else:
        _print_prices(book)
    if warning:
        typer.echo(warning, err=True)


def _print_prices(book: PriceBook) -> None:
    from rich.table import Table

    from tunewright.economics.lifetimes import today

    typer.echo(
        f"Prices in USD, {_days(book.age_days(today()))} old. Machines per hour: {book.as_of}, {book.source}.\n"
        f"APIs per million tokens: {book.apis_as_of}, {book.apis_source}; batch and fast are factors of the price."
    )
    machines = Table(header_style="bold")
    machines.add_column("machine", no_wrap=True)
    for column in ("an hour", "cores"):
        machines.add_column(column, justify="right", no_wrap=True)
    for name, machine in book.machines.items():
        machines.add_row(name, f"{machine.usd_per_hour:.3f}", str(machine.cores))
    apis = Table(header_style="bold")
    apis.add_column("API", no_wrap=True)
    for column in ("in", "cached", "cache write", "out", "batch", "fast"):
        apis.add_column(column, justify="right", no_wrap=True)
    apis.add_column("ends", no_wrap=True)
    apis.add_column("reasoning effort", no_wrap=True)
    for name, api in book.apis.items():
        prices = (api.usd_in, api.usd_cached, api.usd_cache_write, api.usd_out)
        ends = ", ".join(f"{vendor} {'ended ' if end <= today() else ''}{end}" for vendor, end in api.ends.items())
        apis.add_row(
            name,
            *("" if price is None else f"{price:.4g}" for price in prices),
            f"{book.batch_of(api):.3g}",
            "" if api.fast is None else f"{api.fast:.3g}",
            ends,
            _efforts(api),
        )
    console = console_of(160)
    console.print(machines)
    console.print(apis)


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _efforts(api: ApiPrice) -> str:
    if not api.efforts:
        return "reasons" if api.reasons else ""
    return f"{api.efforts[0]} to {api.efforts[-1]}" if len(api.efforts) > 2 else ", ".join(api.efforts)


def _refreshed(book: PriceBook, region: str, out: Path) -> PriceBook:
    from ruamel.yaml import YAML

    from tunewright.economics import price_book
    from tunewright.economics.snapshot import refreshed_book

    if out.exists():
        raise UserError("This file exists already.", where=out, fix="Choose another: --out NAME.yaml")
    refreshed, warnings = refreshed_book(book, region)
    with out.open("w", encoding="utf-8") as stream:
        YAML().dump(refreshed, stream)
    typer.echo(f"Wrote {out}; use it with `prices: {out.name}` in the spec.", err=True)
    for warning in warnings:
        typer.echo(warning, err=True)
    return price_book(out)
