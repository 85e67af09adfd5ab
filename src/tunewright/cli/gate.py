"""`tunewright gate`: for a pipeline that must stop where a target is missed."""

from __future__ import annotations

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
    json: JsonOption = False,
) -> None:
    """Bring a project up to date, hold the served model against the spec's targets; exit code 1 if one is missed."""
    from tunewright import api, load_spec

    report = api.run(load_spec(project, overrides or (), recipe=recipe), runs=runs)
    targets = report.data["verdict"]["targets"]
    passed = all(target["met"] for target in targets)
    if json:
        print_json({"passed": passed, "decision": report.decision, "targets": targets})
    else:
        for sentence in report.ladder.told if report.ladder else ():
            typer.echo(f"Ladder: {sentence}")
        for target in targets:
            typer.echo(f"{'✓' if target['met'] else '✗'} {target['name']}: {target['found']}")
        typer.echo(f"Verdict: {report.decision}")
    if not passed:
        raise typer.Exit(EXIT_GATE)
