"""`tunewright monitor prune`: delete old captures."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, ProjectArgument, print_json


def prune(project: ProjectArgument, json: JsonOption = False, allow_code: AllowCodeOption = False) -> None:
    """Delete captures older than monitor.keep_days and their request logs. Reviewed captures stay."""
    from tunewright import load_spec
    from tunewright.monitoring.store.collect import collected_store
    from tunewright.monitoring.store.retention import prune as delete

    spec = load_spec(project, allow_code=allow_code)
    with collected_store(spec) as store:
        deleted = delete(spec, store)
    if json:
        print_json(asdict(deleted))
        return
    typer.echo(
        f"Deleted {deleted.captures:,} captures, {deleted.second_opinions:,} second opinions and "
        f"{deleted.request_logs:,} request logs older than {spec.monitor.keep_days} days."
    )
