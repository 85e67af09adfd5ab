"""`tunewright gate`: stop a CI pipeline if the verdict misses a target."""

from __future__ import annotations

from os import environ
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    print_json,
)
from tunewright.core.errors import EXIT_GATE


def gate(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    update: Annotated[bool, typer.Option("--update", help="Run outdated steps first, as `run` does.")] = False,
    comment: Annotated[
        bool,
        typer.Option(
            "--comment",
            help="In GitHub Actions or Azure Pipelines: write to the run's summary and comment on the pull request.",
        ),
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the comment to a file.", metavar="FILE", dir_okay=False)
    ] = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Compare the latest verdict with the spec's targets, in seconds. Exit code 1 if a target is missed."""
    from tunewright.config import load_spec
    from tunewright.gate import gate as judge

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    if update:
        from tunewright import api

        api.run(spec, runs=runs)
    result = judge(spec, runs)
    if json:
        targets = [{"name": each.name, "met": each.met, "found": each.found} for each in result.targets]
        print_json({"passed": result.passed, "decision": result.decision, "targets": targets})
    else:
        for target in result.targets:
            typer.echo(f"{'✓' if target.met else '✗'} {target.name}: {target.found}")
        typer.echo(f"Verdict: {result.decision}. {result.sentence}")
    if markdown:
        from tunewright.gate.comment import markdown as as_markdown

        markdown.write_text(as_markdown(result), "utf-8")
    if comment:
        from tunewright.gate.ci import publish

        for line in publish(result, environ):
            typer.echo(line, err=True)
    if not result.passed:
        raise typer.Exit(EXIT_GATE)
