"""`tunewright gate`: for a pipeline that must stop where a target is missed."""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import (
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    print_json,
)
from tunewright.errors import EXIT_GATE


def gate(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    update: Annotated[
        bool, typer.Option("--update", help="Bring the project up to date first, as `run` does.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Hold the latest verdict against the spec's targets, in seconds; exit code 1 if one is missed."""
    from tunewright import api, load_spec
    from tunewright.gate import gate as judge

    spec = load_spec(project, overrides or (), recipe=recipe)
    if update:
        api.run(spec, runs=runs)
    found = judge(spec, runs)
    if json:
        targets = [{"name": each.name, "met": each.met, "found": each.found} for each in found.targets]
        print_json({"passed": found.passed, "decision": found.decision, "targets": targets})
    else:
        for target in found.targets:
            typer.echo(f"{'✓' if target.met else '✗'} {target.name}: {target.found}")
        typer.echo(f"Verdict: {found.decision}. {found.sentence}")
    if not found.passed:
        raise typer.Exit(EXIT_GATE)
