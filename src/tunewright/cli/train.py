"""`tunewright train`: train an adapter, or search for the settings to train it with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from tunewright.cli.steps import print_result
from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.training.loop.sweep import Sweep

ResumeOption = Annotated[bool, typer.Option("--resume", help="Only go on with one that was interrupted.")]
SweepOption = Annotated[
    bool, typer.Option("--sweep", help="Search over learning rate, epochs, and an adapter's rank and scale.")
]
TrialsOption = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials of the sweep, earlier ones counted. (default: 12)")
]
_TRIALS = 12


def train(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    force: ForceOption = False,
    resume: ResumeOption = False,
    sweep: SweepOption = False,
    trials: TrialsOption = None,
    on: OnOption = "local",
    emulate: EmulateOption = False,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Train an adapter, or an encoder. After an interruption the same command goes on from the last checkpoint."""
    from tunewright import api, load_spec

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    if trials and not sweep:
        raise UserError("--trials belongs to a sweep.", fix="Add --sweep, or leave --trials out.")
    if not sweep:
        with placed(spec, on, emulate) as (spec, place):
            folder = api.train(spec, runs=runs, force=force, resume=resume, on=place)
        print_result(folder, json)
        return
    if on != "local" or emulate:
        raise UserError("A sweep runs on this machine.", fix="Leave --on and --emulate out, or --sweep.")
    if force:
        raise UserError("--force and --sweep don't go together.", fix="Delete the sweep's folder to start it anew.")
    if resume:
        raise UserError("--resume and --sweep don't go together.", fix="A sweep always goes on: leave --resume out.")
    found = api.sweep(spec, trials=trials or _TRIALS, runs=runs)
    if json:
        print_json({"noise": found.noise, "trials": [vars(trial) for trial in found.trials]})
    else:
        _print(found)


def _print(found: Sweep) -> None:
    from rich.console import Console
    from rich.table import Table

    from tunewright.training.loop.sweep import written

    table = Table(header_style="bold")
    for name in (*(key.rpartition(".")[2] for key in found.trials[0].overrides), f"{found.measure} %", "loss"):
        table.add_column(name, justify="right")
    table.add_column("")
    for trial in found.trials:
        primary_metric = "-" if trial.primary_metric is None else f"{100 * trial.primary_metric:.1f}"
        loss = "-" if trial.loss is None else f"{trial.loss:.3f}"
        settings = [f"{value:g}" for value in trial.overrides.values()]
        table.add_row(*settings, primary_metric, loss, "" if trial.state == "complete" else trial.state)
    Console(markup=False).print(table)
    typer.echo(
        f"Measured on {found.examples} validation examples: differences below {200 * found.noise:.1f} points may be "
        f"chance.\nThe best: tunewright train … {written(found.trials[0].overrides)}"
    )
