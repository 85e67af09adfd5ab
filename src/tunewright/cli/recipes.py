"""`tunewright recipes`: show settings for a base model on a class of hardware."""

from __future__ import annotations

from typing import Annotated

import typer

from tunewright.cli.options import JsonOption, print_json

app = typer.Typer(help="Show settings for a base model on a class of hardware.", no_args_is_help=True)


@app.command()
def ls(json: JsonOption = False) -> None:
    """List the recipes. Encoders need none, because their settings depend on the data."""
    from tunewright.config.recipes import recipe_names, recipe_text

    titles = {name: recipe_text(name).splitlines()[0].removeprefix("# ") for name in recipe_names()}
    if json:
        print_json(titles)
        return
    width = max(map(len, titles))
    for name, line in titles.items():
        typer.echo(f"{name:<{width}}  {line}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A recipe's name.")]) -> None:
    """Show a recipe: its command, its predicted cost, and the reason for each setting."""
    from tunewright.config.recipes import recipe_text

    typer.echo(recipe_text(name), nl=False)


@app.command()
def launch(name: Annotated[str, typer.Argument(help="fsdp, multi-gpu or multi-node.")]) -> None:
    """Show a file for `accelerate launch --config_file`, for training in several processes."""
    from tunewright.config.recipes import launch_text

    typer.echo(launch_text(name), nl=False)
