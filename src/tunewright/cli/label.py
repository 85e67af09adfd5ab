"""`tunewright label`: let teachers answer requests that have no answer, and people a sample of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tunewright.cli.options import AllowCodeOption, JsonOption, OverridesArgument, ProjectArgument, print_json

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the questions and their cost; ask nobody.")]


def label(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Ask the spec's APIs about requests without an answer, and let people answer a random sample of them.

    Type it again after people have answered (tunewright review PROJECT --labels). Paid answers are never requested
    again."""
    from tunewright import load_spec
    from tunewright.labelling.run import forecast
    from tunewright.labelling.run import label as run_label
    from tunewright.labelling.summary import summary

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    if not dry_run:
        report = run_label(spec)
        if json:
            print_json(asdict(report))
            return
        for line in summary(spec, report):
            typer.echo(line)
        return
    forecasts = forecast(spec)
    if json:
        print_json([asdict(each) for each in forecasts])
        return
    for each in forecasts:
        left = each.questions - each.kept
        reasoning = ", plus its reasoning tokens" if each.reasons else ""
        typer.echo(
            f"{each.teacher} has {each.questions:,} questions, {each.kept:,} of them answered before. The other "
            f"{left:,} take about ${each.usd:,.4f}{reasoning}."
        )
    assert spec.label
    typer.echo(f"The budget for all teachers together is ${spec.label.budget_usd:,.2f}.")
