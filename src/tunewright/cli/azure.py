"""`tunewright azure`: look before a cent is spent, and clear away afterwards."""

from __future__ import annotations

import typer

from tunewright.cli.doctor import print_checks
from tunewright.cli.options import JsonOption, OverridesArgument, ProjectArgument, RecipeOption
from tunewright.cli.places import RehearseOption, placed

app = typer.Typer(help="The Azure side: preflight, what runs, and removing what was made.", no_args_is_help=True)


@app.command("preflight")
def preflight(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    rehearse: RehearseOption = False,
    json: JsonOption = False,
) -> None:
    """Check sign-in, permissions, storage, region, sizes, quota, GPU memory and price; each ✗ with its remedy."""
    from tunewright import api, load_spec

    with placed(load_spec(project, overrides or (), recipe=recipe), "azure", rehearse) as (spec, _):
        checks = api.preflight(spec)
    print_checks(checks, json)
