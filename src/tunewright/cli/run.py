"""`tunewright run`: run every step from raw data to the verdict."""

from __future__ import annotations

from typing import Annotated

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
    arguments,
    print_json,
)

AllOption = Annotated[bool, typer.Option("--all", help="Try every candidate, even after one that does the job.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Run this step and those after it again.")]


def run(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    from_step: FromOption = None,
    force: ForceOption = False,
    every: AllOption = False,
    on: OnOption = "local",
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Check, split, train, export, evaluate and judge each candidate until one does the job.

    Steps that are up to date are reused."""
    from tunewright import api, load_spec
    from tunewright.evaluation.report.table import print_summary

    loaded = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    with placed(loaded, on, emulate) as (spec, backend):
        report = api.run(spec, runs=runs, from_step=from_step, force=force, on=backend, every=every)
    ladder = None
    if report.ladder:
        from tunewright.ladder.page import plain

        ladder = plain(report.ladder)
    if json:
        tried = {"ladder": ladder, "candidates": report.candidates} if ladder else {}
        print_json(report.data | tried | {"report": report.html, "bundle": report.bundle})
    else:
        words = arguments(project, overrides, recipe=recipe, runs=runs, allow_code=allow_code)
        words += ["--on", on] if on != "local" else []
        words += [option for option, given in (("--emulate", emulate), ("--all", every)) if given]
        print_summary(report.data, report.html, report.bundle, words, ladder, report.candidates)
    report.require_gates()
