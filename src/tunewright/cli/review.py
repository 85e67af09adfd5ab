"""`tunewright review`: correct what the model answers."""

from __future__ import annotations

import getpass
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import AllowCodeOption, ProjectArgument


def review(
    project: ProjectArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8090,
    name: Annotated[
        str | None, typer.Option("--as", help="Your name in the history. (default: the system's)", metavar="NAME")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Those may review who have a key in this file: tunewright keys add")
    ] = None,
    admin: Annotated[
        list[str] | None, typer.Option(help="A key's name whose owner may undo what others said.", metavar="NAME")
    ] = None,
    reader: Annotated[
        list[str] | None, typer.Option(help="A key's name whose owner may only look.", metavar="NAME")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Those may review who sign in with the OpenID Connect provider of this file.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="A proxy's address, whose X-Forwarded-For and -Proto are believed.", metavar="ADDRESS"),
    ] = None,
    wanted: Annotated[
        int, typer.Option("--reviewers-per-item", min=1, max=9, help="People who are to review each request.")
    ] = 1,
    allow_code: AllowCodeOption = False,
) -> None:
    """Correct what the model answers, in the browser: the most doubtful, new and disputed requests first."""
    from tunewright.config import load_spec
    from tunewright.review.server import ReviewAccess, serve

    access = ReviewAccess(name or getpass.getuser(), keys, admin or (), reader or (), identity, proxy or ())
    with suppress(KeyboardInterrupt):  # Ctrl-C is how a server is meant to end
        serve(load_spec(project, allow_code=allow_code), host, port, access, wanted)
