"""`tunewright label`: let teachers answer requests that have no answer, and people a sample of them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tunewright.cli.costs import DryRunOption, print_costs
from tunewright.cli.options import AllowCodeOption, JsonOption, OverridesArgument, ProjectArgument, print_json


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
    if dry_run:
        costs, personal = forecast(spec)
        print_costs(costs, spec.label.budget_usd if spec.label else 0.0, json=json, personal_share=personal)
        if personal and not json:
            read = "stand-ins for it" if spec.label and spec.label.pseudonymise else "it"
            typer.echo(f"{personal:.0%} of the requests hold personal data. Teachers read {read} (label.pseudonymise).")
        return
    report = run_label(spec)
    if json:
        print_json(asdict(report))
        return
    for line in summary(spec, report):
        typer.echo(line)
