"""`tunewright prune`: find out how much of the prompt the trained model can do without."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from tunewright.pruning.search import Pruning

WriteOption = Annotated[bool, typer.Option("--write", help="Set the keys of the shortest prompt in the spec.")]


def prune(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    write: WriteOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Train with ever shorter prompts, and say which is the shortest that loses nothing on validation data."""
    from tunewright import api, load_spec
    from tunewright.config.setting import set_keys
    from tunewright.pruning.words import sentence

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    found = api.prune(spec, runs=runs)
    keys = found.shortest.keys
    if json:
        print_json(asdict(found) | {"shortest": found.shortest.name, "sentence": sentence(found)})
    else:
        _print(found)
        typer.echo(sentence(found))
        if keys and not write:
            typer.echo("To train with it, set in the spec, or add --write: " + " ".join(_typed(keys)))
    if write and keys:
        typer.echo(f"Set in {set_keys(project, keys)}: {' '.join(_typed(keys))}", err=True)


def _typed(keys: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in keys.items()]


def _print(found: Pruning) -> None:
    from rich.table import Table

    table = Table(header_style="bold", box=None)
    table.add_column("without")
    for name in ("tokens", "ms", f"{found.metric} %", "change", "at worst"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for each in found.trials:
        compared = each is not found.whole
        table.add_row(
            each.name if compared else "",
            f"{each.prompt_tokens:.0f}",
            f"{each.median_ms:.1f}",
            f"{100 * each.primary_metric:.1f}",
            f"{100 * each.difference:+.1f}" if compared else "",
            f"{100 * each.at_least:+.1f}" if compared else "",
            each.outcome if compared else "as it is",
        )
    console_of(100).print(table)
