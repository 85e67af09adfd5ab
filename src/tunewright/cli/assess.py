"""`tunewright assess`: what can be said before any model is paid for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunewright.cli.options import JsonOption, OverridesArgument, ProjectArgument, RunsOption, print_json

if TYPE_CHECKING:
    from tunewright.assess.fit import FitForecast

app = typer.Typer(help="What can be said before any model is paid for.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command()
def fit(
    project: ProjectArgument, overrides: OverridesArgument = None, runs: RunsOption = None, json: JsonOption = False
) -> None:
    """Forecast whether the job suits a small tuned model, from its data alone."""
    from tunewright import api, load_spec
    from tunewright.assess.fit import forecast_fit
    from tunewright.data.dataset import load_examples

    spec = load_spec(project, overrides or ())
    folder = api.check(spec, runs=runs) / "examples"
    tests = [len(load_examples(path)) for path in sorted(folder.glob("*.jsonl")) if path.stem != "train"]
    forecast = forecast_fit(
        load_examples(folder / "train.jsonl"),
        goal=spec.goal.accuracy,
        seed=spec.seed,
        # The worst test split decides, and none tells more than its rows do.
        test_rows=min(tests, default=None),
        test_share=spec.data.test_fraction,
    )
    if json:
        print_json(asdict(forecast))
    else:
        _print(forecast)


def _print(forecast: FitForecast) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = forecast.facts
    typer.echo(
        f"{facts.rows:,} rows in {facts.groups:,} groups, {facts.answers:,} different answers; requests of "
        f"{facts.request.median:.0f} words, answers of {facts.answer.median:.0f} (medians); "
        f"{facts.test_rows:,} test rows\n"
    )
    table = Table(header_style="bold")
    table.add_column("because")
    table.add_column("evidence")
    for reason in forecast.reasons:
        table.add_row(reason.what, reason.evidence)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    typer.echo(f"\n{forecast.sentence}")
    if forecast.changes:
        typer.echo("What would change this:")
    for change in forecast.changes:
        typer.echo(f"  - {change}")
    typer.echo("This is a rule with few data points behind it; a training settles it.")
