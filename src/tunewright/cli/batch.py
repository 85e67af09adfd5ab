"""`tunewright batch`: answer a file."""

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
    source: Annotated[Path, typer.Argument(help="A JSON Lines file: a text a line, or OpenAI's batch format.")],
    target: Annotated[Path, typer.Argument(help="The output: an answer a line, in the same order.")],
    machine: Annotated[str, typer.Option(help="The machine whose price is told, by its name in the price book.")] = (
        "Standard_D2s_v5"
    ),
    verify: VerifyOption = "on",
    json: JsonOption = False,
) -> None:
    """Answer every line of a file, on all cores or on the Ray cluster that RAY_ADDRESS names. Interrupted, the same
    command goes on. Exit code 1 where a line has an error in the place of an answer."""
    from tunewright.api import bundle_of
    from tunewright.economics import price_book
    from tunewright.inference.checksums import VERIFY
    from tunewright.serving.batch import answer_file

    os.environ[VERIFY] = verify  # the workers ask their environment
    price = price_book(None).machine(machine).usd_per_hour
    found = answer_file(bundle_of(bundle), source, target)
    hours = 1e6 / found.per_second / 3600 if found.per_second else None
    if json:
        print_json(asdict(found) | {"per_second": found.per_second, "hours_per_million": hours})
    else:
        typer.echo(f"{target}: {found.lines:,} lines, {found.refused:,} refused, {found.kept:,} answered before.")
        if hours:
            typer.echo(
                f"{found.per_second:,.1f} a second, the start included; a million would take {hours:,.1f} h, which is "
                f"${hours * price:,.2f} on a {machine} (${price:.3f} an hour) as fast as this machine."
            )
    if found.refused:
        raise typer.Exit(EXIT_GATE)
