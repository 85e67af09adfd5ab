"""`tunewright monitor collect`: move captures from the servers' request logs into the store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, ProjectArgument, print_json


def collect(project: ProjectArgument, json: JsonOption = False, allow_code: AllowCodeOption = False) -> None:
    """Move new captures and feedback from the servers' request logs into the store.

    The other monitor commands do this first by themselves."""
    from tunewright import load_spec
    from tunewright.monitoring.store import open_store
    from tunewright.monitoring.store.collect import collect as move

    spec = load_spec(project, allow_code=allow_code)
    collected = move(spec, open_store(spec))
    if json:
        print_json(asdict(collected))
        return
    typer.echo(f"Collected {collected.captures:,} captures and {collected.feedback:,} items of feedback.")
    if collected.repeated:
        typer.echo(f"{collected.repeated:,} captures were in the store already.")
    if collected.unreadable:
        typer.echo(f"{collected.unreadable:,} lines can't be read and were skipped.")
