"""`tunewright baseline`: measure how well the APIs answer."""

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

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the requests, tokens and cost; call no API.")]


def baseline(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Send the test examples to the APIs, or read their recorded answers. Paid answers are never requested again."""
    from tunewright import api, load_spec

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    if not dry_run:
        print_result(api.baseline(spec, runs=runs, force=force), json)
        return
    forecasts = api.baseline_forecast(spec, runs=runs)
    if json:
        print_json([asdict(each) for each in forecasts])
        return
    for each in forecasts:
        left = each.questions - each.kept
        reasoning = ", plus its reasoning tokens" if each.reasons else ""
        typer.echo(
            f"{each.api} has {each.questions:,} questions, {each.kept:,} of them answered before. The other {left:,} "
            f"take about {each.prompt_tokens:,} tokens and ${each.usd:,.4f}{reasoning}."
        )
    typer.echo(f"The budget for all APIs together is ${spec.baseline.budget_usd:,.2f}.")
