"""`tunewright recipes`: settings for a base model on a class of hardware."""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import JsonOption, print_json

app = typer.Typer(help="Settings for a base model on a class of hardware.", no_args_is_help=True)


@app.command()
def ls(json: JsonOption = False) -> None:
    """List the recipes. An encoder needs none: its settings hang on the data."""
    from tunewright.config.recipes import recipe_names, recipe_text

    said = {name: recipe_text(name).splitlines()[0].removeprefix("# ") for name in recipe_names()}
    if json:
        print_json(said)
        return
    width = max(map(len, said))
    for name, line in said.items():
        typer.echo(f"{name:<{width}}  {line}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A recipe's name.")]) -> None:
    """Show a recipe: its command, what was predicted for it, and why each setting is what it is."""
    from tunewright.config.recipes import recipe_text

    typer.echo(recipe_text(name), nl=False)


@app.command()
def launch(name: Annotated[str, typer.Argument(help="fsdp, multi-gpu or multi-node.")]) -> None:
    """Show a file for `accelerate launch --config_file`, for trainings in several processes."""
    from tunewright.config.recipes import launch_text

    typer.echo(launch_text(name), nl=False)
