"""`tunewright assess`: costs, fit and sample sizes, before any model is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    console_of,
    print_json,
    with_default,
)
from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.economics.assessment import Assessment
    from tunewright.economics.fit import FitForecast


app = typer.Typer(
    cls=with_default("money"),
    help="Estimate costs, fit and sample sizes before any model is trained. `tunewright assess SPEC` is short for "
    "`tunewright assess money SPEC`.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None:
    pass


@app.command()
def money(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Compare the monthly cost of each API and of an own model, and say which inputs decide. Needs no data."""
    from tunewright.config import load_money
    from tunewright.economics import price_book
    from tunewright.economics.assessment import assess

    spec = load_money(project, overrides or (), allow_code=allow_code)
    assessment = assess(spec, price_book(spec.price_file))
    if json:
        print_json(asdict(assessment))
    else:
        _print_money(assessment, spec.traffic.requests_per_month)


def _print_money(assessment: Assessment, requests: int) -> None:
    from rich.table import Table

    cached = f" ({assessment.cached_tokens:,.0f} from the API's cache)" if assessment.cached_tokens else ""
    typer.echo(
        f"A month of {requests:,} requests, {assessment.prompt_tokens:,.0f} tokens in{cached} and "
        f"{assessment.answer_tokens:,.0f} out; prices of {assessment.as_of}\n"
    )
    table = Table(header_style="bold")
    table.add_column("way of answering", no_wrap=True)
    for column in ("P95 ms", "machines", "$ per 1,000", "$ per month"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for way in assessment.ways:
        table.add_row(
            way.label,
            f"{1000 * way.p95:,.0f}" if way.p95 else "",
            str(way.cost.replicas or ""),
            f"{way.cost.usd_per_1000:,.4f}",
            f"{way.cost.usd_per_month:,.0f}",
            way.note,
        )
    console = console_of(120)
    console.print(table)
    if assessment.money and assessment.own:
        parts = Table(title=f"A month of {assessment.own.label}", title_justify="left", header_style="bold")
        parts.add_column("item")
        parts.add_column("$ per month", justify="right", no_wrap=True)
        parts.add_column("basis")
        for item in assessment.money.items:
            usd = "" if item.usd_per_month is None else f"{item.usd_per_month:,.2f}"
            parts.add_row(item.name, usd, f"{item.basis} ({item.source})")
        console.print(parts)
        swings = Table(title="The inputs that decide the monthly saving", title_justify="left", header_style="bold")
        swings.add_column("input")
        for column in ("from", "saves $", "to", "saves $"):
            swings.add_column(column, justify="right")
        for swing in assessment.money.swings:
            swings.add_row(swing.name, swing.low, f"{swing.saving_low:,.0f}", swing.high, f"{swing.saving_high:,.0f}")
        console.print(swings)
    typer.echo(f"\n{assessment.sentence}")
    for note in filter(None, (assessment.left_out, assessment.uncached, assessment.stale)):
        typer.echo(f"\n{note}")


@app.command()
def fit(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Forecast from the data alone whether a small tuned model suits the job."""
    from tunewright import api, load_spec
    from tunewright.data.curve.learning_curve import require_one_label
    from tunewright.data.dataset import load_examples
    from tunewright.economics.fit import forecast_fit

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    require_one_label(spec)
    folder = api.check(spec, runs=runs) / "examples"
    tests = [len(load_examples(path)) for path in sorted(folder.glob("*.jsonl")) if path.stem != "train"]
    forecast = forecast_fit(
        load_examples(folder / "train.jsonl"),
        goal=spec.goal.accuracy,
        seed=spec.seed,
        # The worst test split decides, and the smallest one proves the least.
        test_rows=min(tests, default=None),
        test_share=spec.data.test_fraction,
    )
    if json:
        print_json(asdict(forecast))
    else:
        _print_fit(forecast)


@app.command()
def size(
    margin: Annotated[
        float, typer.Option(help="How much worse the model may be, as a share.", min=1e-4, max=0.5)
    ] = 0.02,
    discordant: Annotated[
        float, typer.Option(help="Share of the examples on which only one of the two is right.", min=1e-4, max=1)
    ] = 0.1,
    difference: Annotated[
        float, typer.Option(help="The model's true advantage as a share; negative if it is worse.", min=-0.5, max=0.5)
    ] = 0.0,
    design_effect: Annotated[
        float,
        typer.Option(
            help="How many examples count as one independent example if they come in groups (a customer, a phrasing): "
            "1 + (examples of a group - 1) x intraclass correlation.",
            min=1,
            max=1000,
        ),
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Compute how many test examples prove that a model is not worse than the API by more than a margin."""
    from tunewright.evaluation.statistics.grouped import MAX_SHARE, MIN_GROUPS
    from tunewright.evaluation.statistics.pairs import ALPHA, POWER, pairs_needed

    if difference <= -margin or abs(difference) > discordant:
        raise UserError(
            "No number of examples proves that.",
            why="The model is worse by the margin or more, or its advantage is larger than the share on which the two "
            "differ.",
            fix="Choose --difference above minus --margin, and no larger than --discordant.",
        )
    count = pairs_needed(margin, discordant - difference**2, difference, design_effect)
    if json:
        print_json(
            {
                "examples": count,
                "margin": margin,
                "discordant": discordant,
                "difference": difference,
                "design_effect": design_effect,
                "error": ALPHA,
                "power": POWER,
            }
        )
        return
    grouped = (
        f" They come in groups, so {design_effect:g} of them count as one independent example. You need {MIN_GROUPS} "
        f"groups, none with more than {MAX_SHARE:.0%} of the examples."
        if design_effect > 1
        else ""
    )
    typer.echo(
        f"{count:,} test examples prove, with a power of {POWER:.0%} and an error of {ALPHA:.0%}, that a model is not "
        f"worse by more than {100 * margin:.1f} points, if it differs by {100 * difference:+.1f} points and only one "
        f"of the two is right on {discordant:.0%} of the examples.{grouped}"
    )


def _print_fit(forecast: FitForecast) -> None:
    from rich.table import Table

    facts = forecast.facts
    typer.echo(
        f"{facts.rows:,} rows in {facts.groups:,} groups, {facts.answers:,} different answers; requests of "
        f"{facts.request.median:.0f} words, answers of {facts.answer.median:.0f} (medians); "
        f"{facts.test_rows:,} test rows\n"
    )
    table = Table(header_style="bold")
    table.add_column("reason")
    table.add_column("evidence")
    for reason in forecast.reasons:
        table.add_row(reason.what, reason.evidence)
    console = console_of(120)
    console.print(table)
    typer.echo(f"\n{forecast.sentence}")
    if forecast.changes:
        typer.echo("This would change the forecast:")
    for change in forecast.changes:
        typer.echo(f"  - {change}")
    typer.echo("The rule rests on few data points; only a training run decides.")
