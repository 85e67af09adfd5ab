"""`tunewright baseline`: measure how well the APIs answer."""

from __future__ import annotations

from tunewright.cli.costs import DryRunOption, print_costs
from tunewright.cli.options import (
    AllowCodeOption,
    ForceOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
)
from tunewright.cli.steps import print_result


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
    print_costs(api.baseline_forecast(spec, runs=runs), spec.baseline.budget_usd, json=json)
