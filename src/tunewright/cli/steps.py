"""`tunewright data|train|export|evaluate`: bring a project up to date as far as one room."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from pathlib import Path

import typer

from tunewright.cli.options import (
    ForceOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    print_json,
)


def data(project: ProjectArgument, overrides: OverridesArgument = None, runs: RunsOption = None,
         force: ForceOption = False, json: JsonOption = False) -> None:  # fmt: skip
    """Check the raw data and split it into a dataset."""
    _show("split", project, overrides, runs, force, json)


def train(project: ProjectArgument, overrides: OverridesArgument = None, runs: RunsOption = None,
          force: ForceOption = False, json: JsonOption = False) -> None:  # fmt: skip
    """Train an adapter."""
    _show("train", project, overrides, runs, force, json)


def export(project: ProjectArgument, overrides: OverridesArgument = None, runs: RunsOption = None,
           force: ForceOption = False, json: JsonOption = False) -> None:  # fmt: skip
    """Merge the adapter and build the bundle that is served."""
    _show("export", project, overrides, runs, force, json)


def evaluate(project: ProjectArgument, overrides: OverridesArgument = None, runs: RunsOption = None,
             force: ForceOption = False, json: JsonOption = False) -> None:  # fmt: skip
    """Ask every predictor the test examples."""
    _show("evaluate", project, overrides, runs, force, json)


VERBS: dict[str, Callable[..., None]] = {"data": data, "train": train, "export": export, "evaluate": evaluate}


def _show(step: str, project: Path, overrides: list[str] | None, runs: Path | None, force: bool, json: bool) -> None:
    from tunewright import api, load_spec
    from tunewright.artifacts import MANIFEST

    folder: Path = getattr(api, step)(load_spec(project, overrides or ()), runs=runs, force=force)
    result = jsonlib.loads((folder / MANIFEST).read_text("utf-8"))["result"]
    if json:
        print_json({"folder": folder, **result})
        return
    for key, value in result.items():
        typer.echo(f"{key.replace('_', ' '):<28} {value}")
    typer.echo(folder)
