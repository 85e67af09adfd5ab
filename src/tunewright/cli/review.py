"""`tunewright review`: serve the web app in which people correct the model's answers."""

from __future__ import annotations

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
    keys: Annotated[Path | None, typer.Option(help="Reviewers need a key of this file (tunewright keys add).")] = None,
    admin: Annotated[
        list[str] | None, typer.Option(help="The name of a key whose owner may undo others' reviews.", metavar="NAME")
    ] = None,
    reader: Annotated[
        list[str] | None, typer.Option(help="The name of a key whose owner may only read.", metavar="NAME")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Reviewers sign in with the OpenID Connect provider of this file.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="The address of a proxy whose X-Forwarded-For and -Proto to trust.", metavar="ADDRESS"),
    ] = None,
    reviewers_per_item: Annotated[
        int, typer.Option("--reviewers-per-item", min=1, max=9, help="How many people review each request.")
    ] = 1,
    labels: Annotated[
        bool, typer.Option("--labels", help="Answer the requests that `tunewright label` asks people about.")
    ] = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Correct the model's answers in the browser: the most doubtful, new and disputed requests first."""
    from tunewright.config import load_spec
    from tunewright.core.processes import whoami
    from tunewright.review.server import ReviewAccess, serve

    access = ReviewAccess(name or whoami(), keys, admin or (), reader or (), identity, proxy or ())
    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end of a server
        serve(load_spec(project, allow_code=allow_code), host, port, access, reviewers_per_item, labels=labels)
