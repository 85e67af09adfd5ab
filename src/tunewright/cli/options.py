"""Arguments and options that several verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

ProjectArgument = Annotated[Path, typer.Argument(help="The project: a folder with tunewright.yaml, or a spec file.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Overrides of the spec, such as train.lr=1e-4", metavar="[KEY=VALUE]...")
]
RunsOption = Annotated[Path | None, typer.Option("--runs", help="Where outputs go. (default: runs/ beside the spec)")]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Settings that lie over the spec's: tunewright recipes ls", metavar="NAME"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run every step even where it is up to date.")]
VerifyOption = Annotated[
    Literal["on", "off"],
    typer.Option(help="Whether a bundle's files must be those that it was made with.", envvar="TUNEWRIGHT_VERIFY"),
]
AllowCodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Import the Python module that the spec's task.schema names.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def console_of(width: int) -> Console:
    """Standard output for tables; so many signs wide where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = width
    return console


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
