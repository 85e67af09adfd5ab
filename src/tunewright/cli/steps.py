"""`tunewright evaluate` and `tunewright data split`: run the outdated steps up to one step."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from pathlib import Path

import typer

from tunewright.cli.backends import EmulateOption, OnOption, placed
from tunewright.cli.options import (
    AllowCodeOption,
    ForceOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    print_json,
)


def step_command(step: str, help_text: str) -> Callable[..., None]:
    """The command of a step: it runs the outdated steps up to this one and prints this one's figures."""

    def command(
        project: ProjectArgument,
        overrides: OverridesArgument = None,
        recipe: RecipeOption = None,
        runs: RunsOption = None,
        force: ForceOption = False,
        on: OnOption = "local",
        emulate: EmulateOption = False,
        json: JsonOption = False,
        allow_code: AllowCodeOption = False,
    ) -> None:
        from tunewright import api, load_spec

        loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
        with placed(loaded, on, emulate) as (spec, backend):
            folder = getattr(api, step)(spec, runs=runs, force=force, on=backend)
        print_result(folder, json)

    command.__name__, command.__doc__ = step, help_text
    return command


def print_result(folder: Path, json: bool) -> None:
    """Print a step's figures, from its output folder."""
    from tunewright.core.artifacts import MANIFEST

    result = jsonlib.loads((folder / MANIFEST).read_text("utf-8"))["result"]
    if json:
        print_json({"folder": folder, **result})
        return
    for key, value in result.items():
        typer.echo(f"{key.replace('_', ' '):<28} {_as_text(value)}")
    typer.echo(folder)


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items()) or "none"
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


evaluate = step_command("evaluate", "Let every candidate and baseline answer the test examples.")
