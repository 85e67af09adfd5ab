"""`tunewright baseline`: how good are the APIs that come into question?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    ForceOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    print_json,
)
from tunewright.cli.steps import print_result

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what asking would take and cost; ask nothing.")]


def baseline(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Ask the APIs the test examples, or read their recorded answers. What was paid for is never asked again."""
    from tunewright import api, load_spec

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    if not dry_run:
        print_result(api.baseline(spec, runs=runs, force=force), json)
        return
    found = api.baseline_forecast(spec, runs=runs)
    if json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        left = each.questions - each.kept
        thinking = ", and what it thinks" if each.reasons else ""
        typer.echo(
            f"{each.questions:,} questions to {each.api}, {each.kept:,} of them answered before. The other "
            f"{left:,} take about {each.prompt_tokens:,} tokens and ${each.usd:,.4f}{thinking}."
        )
    typer.echo(f"The budget for all is ${spec.baseline.budget_usd:,.2f}.")
