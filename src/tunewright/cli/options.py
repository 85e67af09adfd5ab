"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tunewright.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

ProjectArgument = Annotated[Path, typer.Argument(help="The project: a folder with tunewright.yaml, or a spec file.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Values that override the spec, such as train.lr=1e-4", metavar="KEY=VALUE"),
]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="The folder for outputs. (default: runs/ beside the spec)")
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="A recipe that overrides the spec (tunewright recipes ls).", metavar="NAME"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run every step, even if it is up to date.")]
VerifyOption = Annotated[
    Literal["on", "off"],
    typer.Option(help="Whether to verify the checksums of a bundle's files.", envvar="TUNEWRIGHT_VERIFY"),
]
AllowCodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Import the Python module that the spec's task.schema names.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def arguments(
    project: Path,
    overrides: Sequence[str] | None,
    *,
    recipe: str | None = None,
    runs: Path | None = None,
    allow_code: bool = False,
) -> list[str]:
    """The words of a further command on the same project, as they were typed for this one."""
    options = (("--recipe", recipe), ("--runs", runs))
    valued = [word for option, value in options if value is not None for word in (option, str(value))]
    return [str(project), *(overrides or ()), *valued, *(["--allow-code"] if allow_code else [])]


def with_default(name: str) -> type[TyperGroup]:
    """The class of a group in which one command's name may be left out: what is no command belongs to it.

    Its parsing raises:
        UserError: the first word is nearly a command's name.
    """

    class DefaultCommand(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
            if not named and not ctx.resilient_parsing:  # else a line is being completed
                _require_no_misspelling(args[0], self.commands)
            return super().parse_args(ctx, args if named else [name, *args])

    return DefaultCommand


def _require_no_misspelling(word: str, commands: Iterable[str]) -> None:
    if word.startswith("-") or Path(word).exists():
        return
    if meant := did_you_mean(word, commands, ""):
        raise UserError(f"'{word}' is neither a command nor a path that exists.", fix=meant)


def console_of(width: int) -> Console:
    """Standard output for tables; `width` characters wide if it is not a terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = width
    return console


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
