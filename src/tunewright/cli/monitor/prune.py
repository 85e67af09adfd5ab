"""`tunewright monitor prune`: delete what has lain long enough."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, ProjectArgument, print_json


def prune(project: ProjectArgument, json: JsonOption = False, allow_code: AllowCodeOption = False) -> None:
    """Delete captures older than monitor.keep_days and the journals they came in; what was reviewed stays."""
    from tunewright import load_spec
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.store.retention import prune as delete

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        found = delete(spec, store)
    if json:
        print_json(asdict(found))
        return
    typer.echo(
        f"Older than {spec.monitor.keep_days} days: {found.captures:,} captures, {found.second_opinions:,} second "
        f"opinions and {found.request_logs:,} journals were deleted."
    )
