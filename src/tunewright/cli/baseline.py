"""`tunewright baseline`: how good is the API that is paid for today?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tunewright.cli.options import (
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
) -> None:
    """Ask the API the test examples, or read its recorded answers. Answers that were paid for are never asked again."""
    from tunewright import api, load_spec

    spec = load_spec(project, overrides or ())
    if not dry_run:
        print_result(api.baseline(spec, runs=runs, force=force), json)
        return
    found = api.baseline_forecast(spec, runs=runs)
    if json:
        print_json(asdict(found))
        return
    left = found.questions - found.kept
    typer.echo(
        f"{found.questions:,} questions to {spec.api.model}, {found.kept:,} of them answered before. The other "
        f"{left:,} take about {found.prompt_tokens:,} tokens and ${found.usd:,.4f}; the budget is "
        f"${spec.api.budget_usd:,.2f}."
    )
