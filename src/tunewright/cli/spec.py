"""`tunewright spec`: print the spec's schema, or a spec with every default filled in."""

from __future__ import annotations

import typer

from tunewright.cli.options import AllowCodeOption, OverridesArgument, ProjectArgument, RecipeOption, print_json

app = typer.Typer(help="Print the spec's schema, or a checked spec.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of tunewright.yaml."""
    from tunewright.config import spec_schema

    print_json(spec_schema())


@app.command()
def show(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check a spec and print it with every default filled in."""
    from tunewright.config import load_spec

    print_json(load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code).model_dump(mode="json"))
