"""`tunewright train`: train a model, or search for training settings."""

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

ResumeOption = Annotated[bool, typer.Option("--resume", help="Only continue an interrupted training.")]
SweepOption = Annotated[
    bool, typer.Option("--sweep", help="Search over learning rate, epochs, and the adapter's rank and scale.")
]
TrialsOption = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials of the sweep, earlier ones included. (default: 12)")
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
    """Train an adapter or an encoder. After an interruption the same command continues from the last checkpoint."""
    from tunewright import api, load_spec

    spec = load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code)
    if trials and not sweep:
        raise UserError("--trials belongs to a sweep.", fix="Add --sweep, or leave --trials out.")
    if not sweep:
        with placed(spec, on, emulate) as (spec, backend):
            folder = api.train(spec, runs=runs, force=force, resume=resume, on=backend)
        print_result(folder, json)
        return
    if on != "local" or emulate:
        raise UserError("A sweep runs on this machine only.", fix="Leave out --on and --emulate, or --sweep.")
    if force:
        raise UserError("--force and --sweep don't go together.", fix="Delete the sweep's folder to restart it.")
    if resume:
        raise UserError("--resume and --sweep don't go together.", fix="Leave --resume out: a sweep always continues.")
    result = api.sweep(spec, trials=trials or _TRIALS, runs=runs)
    if json:
        print_json({"noise": result.noise, "trials": [vars(trial) for trial in result.trials]})
    else:
        _print(result)


def _print(sweep: Sweep) -> None:
    from rich.console import Console
    from rich.table import Table

    from tunewright.training.loop.sweep import written

    table = Table(header_style="bold")
    for name in (*(key.rpartition(".")[2] for key in sweep.trials[0].overrides), f"{sweep.measure} %", "loss"):
        table.add_column(name, justify="right")
    table.add_column("")
    for trial in sweep.trials:
        primary_metric = "-" if trial.primary_metric is None else f"{100 * trial.primary_metric:.1f}"
        loss = "-" if trial.loss is None else f"{trial.loss:.3f}"
        settings = [f"{value:g}" for value in trial.overrides.values()]
        table.add_row(*settings, primary_metric, loss, "" if trial.state == "complete" else trial.state)
    Console(markup=False).print(table)
    typer.echo(
        f"Measured on {sweep.examples} validation examples: differences below {100 * sweep.noise:.1f} points may be "
        f"chance.\nThe best: tunewright train … {written(sweep.trials[0].overrides)}"
    )
