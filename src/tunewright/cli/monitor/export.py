"""`tunewright monitor export`: captures as training data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import AllowCodeOption, ProjectArgument


def export(
    project: ProjectArgument,
    out: Annotated[Path, typer.Option("--out", help="The new file: JSON Lines, OpenAI's messages.")],
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Only what somebody looked at.")] = False,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was asked from this day on, in UTC.", formats=["%Y-%m-%d"])
    ] = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write captures as chat JSONL that `data.train` reads, each with the right answer where somebody said one."""
    from tunewright import load_spec
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.store.export import export as write

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        count = write(spec, store, out, reviewed=reviewed, since=since.replace(tzinfo=UTC) if since else None)
    typer.echo(f"{out}: {count:,} examples.")
