"""`tunewright monitor collect`: move what servers wrote into the store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, ProjectArgument, print_json


def collect(project: ProjectArgument, json: JsonOption = False, allow_code: AllowCodeOption = False) -> None:
    """Move what servers wrote since the last time into the store. Other verbs do this first by themselves."""
    from tunewright import load_spec
    from tunewright.monitoring.store import open_store
    from tunewright.monitoring.store.collect import collect as move

    spec = load_spec(project, allow_code=allow_code)
    found = move(spec, open_store(spec))
    if json:
        print_json(asdict(found))
        return
    typer.echo(f"{found.captures:,} captures and {found.feedback:,} feedbacks were collected.")
    if found.repeated:
        typer.echo(f"{found.repeated:,} captures were there already.")
    if found.unreadable:
        typer.echo(f"{found.unreadable:,} lines can't be read and were passed over.")
