"""`tunewright keys`: the API keys of a server's clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Manage the API keys of a server's clients (tunewright serve --keys FILE).", no_args_is_help=True
)

FileOption = Annotated[Path, typer.Option("--file", help="The key file. It holds hashes only.")]
_FILE = Path("keys.json")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The client's name.")],
    file: FileOption = _FILE,
    per_minute: Annotated[
        int | None, typer.Option(min=1, help="The most requests in a minute. (default: any number)")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that the client may use; repeatable. (default: all)")
    ] = None,
) -> None:
    """Create a key and print it once; the file keeps its hash. A running server accepts it at once."""
    from tunewright.auth.keys import add_key

    typer.echo(add_key(file, name, per_minute, model or None))


@app.command("ls")
def ls(file: FileOption = _FILE) -> None:
    """List the keys' names."""
    from tunewright.auth.keys import read_keys

    for key in read_keys(file):
        allowed = f"{key.per_minute} a minute" if key.per_minute else "any number"
        typer.echo(f"{key.name}  created {key.created}, {allowed}{_limited(key.models)}")


def _limited(models: list[str] | None) -> str:
    """What a key's line says of the models that it may use."""
    if models is None:
        return ""
    return f", models {', '.join(models)}" if models else ", no models"


@app.command("rm")
def rm(name: Annotated[str, typer.Argument(help="The client's name.")], file: FileOption = _FILE) -> None:
    """Delete a key. A running server refuses it from the next request on."""
    from tunewright.auth.keys import remove_key

    remove_key(file, name)
