"""`tunewright gate`: for a pipeline that must stop where a target is missed."""

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
    update: Annotated[
        bool, typer.Option("--update", help="Bring the project up to date first, as `run` does.")
    ] = False,
    comment: Annotated[
        bool,
        typer.Option(
            "--comment",
            help="In GitHub Actions or Azure Pipelines: into the run's summary, and on a pull request as its comment.",
        ),
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write that comment into a file.", metavar="FILE", dir_okay=False)
    ] = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Hold the latest verdict against the spec's targets, in seconds; exit code 1 if one is missed."""
    from tunewright.config import load_spec
    from tunewright.gate import gate as judge

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    if update:
        from tunewright import api

        api.run(spec, runs=runs)
    found = judge(spec, runs)
    if json:
        targets = [{"name": each.name, "met": each.met, "found": each.found} for each in found.targets]
        print_json({"passed": found.passed, "decision": found.decision, "targets": targets})
    else:
        for target in found.targets:
            typer.echo(f"{'✓' if target.met else '✗'} {target.name}: {target.found}")
        typer.echo(f"Verdict: {found.decision}. {found.sentence}")
    if markdown:
        from tunewright.gate.comment import comment as as_markdown

        markdown.write_text(as_markdown(found), "utf-8")
    if comment:
        from tunewright.gate.ci import tell

        for line in tell(found, environ):
            typer.echo(line, err=True)
    if not found.passed:
        raise typer.Exit(EXIT_GATE)
