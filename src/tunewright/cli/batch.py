"""`tunewright batch`: answer every line of a file."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import JsonOption, VerifyOption, print_json
from tunewright.core.errors import EXIT_GATE


def batch(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a project whose latest bundle answers.")],
    source: Annotated[Path, typer.Argument(help="A JSON Lines file: one text per line, or OpenAI's batch format.")],
    target: Annotated[Path, typer.Argument(help="The output: one answer per line, in the same order.")],
    machine: Annotated[str, typer.Option(help="The machine for the printed price, by its name in the price book.")] = (
        "Standard_D2s_v5"
    ),
    verify: VerifyOption = "on",
    json: JsonOption = False,
) -> None:
    """Answer every line of a file, on all cores or on the Ray cluster that RAY_ADDRESS names.

    After an interruption the same command continues. Exit code 1 if a line got an error instead of an answer."""
    from tunewright.economics import price_book
    from tunewright.inference.checksums import VERIFY
    from tunewright.serving.batch import answer_file
    from tunewright.serving.served import bundle_of

    os.environ[VERIFY] = verify  # the workers read it
    price = price_book(None).machine(machine).usd_per_hour
    result = answer_file(bundle_of(bundle), source, target)
    hours = 1e6 / result.per_second / 3600 if result.per_second else None
    if json:
        print_json(asdict(result) | {"per_second": result.per_second, "hours_per_million": hours})
    else:
        typer.echo(f"{target}: {result.lines:,} lines, {result.refused:,} refused, {result.kept:,} answered before.")
        if hours:
            typer.echo(
                f"{result.per_second:,.1f} answers a second, startup included. A million would take {hours:,.1f} h, or "
                f"${hours * price:,.2f} on a {machine} (${price:.3f} an hour) as fast as this machine."
            )
    if result.refused:
        raise typer.Exit(EXIT_GATE)
