"""`tunewright monitor export`: write captures as training data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import AllowCodeOption, ProjectArgument


def export(
    project: ProjectArgument,
    out: Annotated[Path, typer.Option("--out", help="The new file: JSON Lines with OpenAI's messages.")],
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Only reviewed captures.")] = False,
    since: Annotated[
        datetime | None, typer.Option(help="Only captures from this day on, in UTC.", formats=["%Y-%m-%d"])
    ] = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write captures as chat JSONL for `data.train`, each with the corrected answer if a reviewer gave one."""
    from tunewright import load_spec
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.store.export import export as write

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        count = write(spec, store, out, reviewed=reviewed, since=since.replace(tzinfo=UTC) if since else None)
    typer.echo(f"{out}: {count:,} examples.")
