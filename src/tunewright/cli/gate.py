"""`tunewright gate`: for a pipeline that must stop where a target is missed."""

from __future__ import annotations

from dataclasses import asdict

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
    from tunewright.evaluate.gate import targets

    spec = load_spec(project, overrides or (), recipe=recipe)
    report = api.run(spec, runs=runs)
    found = targets(spec, report.data)
    if json:
        print_json({"passed": all(each.met for each in found), "decision": report.decision,
                    "targets": [asdict(each) for each in found]})  # fmt: skip
    else:
        for each in found:
            typer.echo(f"{'✓' if each.met else '✗'} {each.name}: {each.found}")
        typer.echo(f"Verdict: {report.decision}")
    if not all(each.met for each in found):
        raise typer.Exit(EXIT_GATE)
