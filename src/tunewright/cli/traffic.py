"""`tunewright traffic`: the jobs in what the gateway captured, or in logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from glob import has_magic
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.cli.options import JsonOption, console_of, print_json

if TYPE_CHECKING:
    from tunewright.traffic.jobs import TrafficJob, TrafficReport
    from tunewright.traffic.ownable import Ownable

app = typer.Typer(help="Find the jobs in captured traffic: what each costs, takes and answers.", no_args_is_help=True)

CapturesArgument = Annotated[
    Path,
    typer.Argument(
        help="The folder of the gateway's captures, or the gateway.yaml that names it; or logs of others: a file, a "
        "folder or a pattern."
    ),
]


GoalOption = Annotated[
    float,
    typer.Option(min=0.5, max=1, help="The share of answers in which an owned model must agree with the API's."),
]
_GOAL = 0.9


@app.command("ls")
def ls(captures: CapturesArgument, goal: GoalOption = _GOAL, json: JsonOption = False) -> None:
    """List the jobs, the dearest first, with requests and dollars of a month like the captured time, and forecast how
    much of each an owned model could answer."""
    from tunewright.traffic.jobs import find_jobs
    from tunewright.traffic.ownable import ownable

    report = find_jobs(traffic_source(captures))
    shares = [ownable(job, goal) for job in report.jobs]
    if json:
        jobs = [{**_plain(job), "ownable": asdict(share)} for job, share in zip(report.jobs, shares, strict=True)]
        outliers = report.outliers and asdict(report.outliers)
        unreadable = vars(report.unreadable)
        print_json({**vars(report), "outliers": outliers, "unreadable": unreadable, "goal": goal, "jobs": jobs})
    else:
        _print_jobs(report, shares, goal)


@app.command("show")
def show(
    captures: CapturesArgument,
    job: Annotated[str, typer.Argument(help="The job's name, as `tunewright traffic ls` prints it.")],
    goal: GoalOption = _GOAL,
) -> None:
    """Show one job: its prompt, what varies in it, its answers, examples, and the forecast."""
    from tunewright.traffic.jobs import find_jobs
    from tunewright.traffic.ownable import ownable

    found = find_jobs(traffic_source(captures)).job(job, captures)
    _print_job(found)
    typer.echo(f"\nForecast, with right meaning what the API said: {ownable(found, goal).why}")


def traffic_source(named: Path) -> Path:
    """The traffic that a user names: by itself, or by the settings of the gateway that captures it."""
    from tunewright.core.errors import UserError
    from tunewright.gateway.config import load_gateway

    if named.suffix not in (".yaml", ".yml"):
        if not named.exists() and not has_magic(str(named)):
            raise UserError(
                "There is no such file or folder.",
                where=named,
                fix="Name the gateway's captures, the gateway.yaml, or logs.",
            )
        return named
    spec = load_gateway(named)
    if spec.capture is None:
        raise UserError(
            "This gateway captures nothing.", where=named, fix="Add two lines: capture: and  folder: captures"
        )
    if not spec.capture.folder.exists():
        raise UserError(
            "There are no captured requests here.",
            where=spec.capture.folder,
            fix=f"Let requests pass through the gateway: tunewright gateway {quote(str(named))}",
        )
    return spec.capture.folder


def _plain(job: TrafficJob) -> dict[str, Any]:
    latency = {"p50_seconds": job.quantile(0.5), "p95_seconds": job.quantile(0.95)}
    return {
        **{each.name: getattr(job, each.name) for each in fields(job) if each.repr and each.name != "seconds"},
        "form": asdict(job.form),
        **latency,
        "usd_per_month": job.usd_per_month,
        "examples": [asdict(each) for each in job.drawn[:3]],
    }


def _print_jobs(report: TrafficReport, shares: Sequence[Ownable], goal: float) -> None:
    from rich.table import Table

    from tunewright.traffic.ownable import of_the_bill

    table = Table(header_style="bold")
    table.add_column("job", overflow="fold")
    for column in ("requests a month", "$ a month", "P50 ms", "P95 ms"):
        table.add_column(column, justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("answers", overflow="fold")
    table.add_column("could be owned", overflow="fold")
    for job, share in zip(report.jobs, shares, strict=True):
        usd = job.usd_per_month
        table.add_row(
            job.name,
            f"{job.requests * job.months:,.0f}",
            "unknown" if usd is None else f"{usd:,.2f}",
            *("unknown" if each is None else f"{1000 * each:,.0f}" for each in map(job.quantile, (0.5, 0.95))),
            next(iter(job.models), ""),
            _form(job),
            _share(share),
        )
    console_of(140).print(table)
    if report.days is None or report.first is None or report.last is None:
        typer.echo("The log has no times, so all of it counts as one month.")
    else:
        days = report.days
        captured = f"{days:.1f} days" if days >= 2 else f"{24 * days:.1f} hours"
        typer.echo(f"A month is {captured} of captures, {_dates(report.first, report.last)}, scaled to 30.44 days.")
        if few := report.outliers:
            typer.echo(
                f"Most of that time has only {few.calls:,} of {few.calls + few.others:,} calls. The others "
                f"are of {_dates(few.first, few.last)}. If the few have wrong times, a month has more requests "
                "and dollars than this table says."
            )
        if days < 7:
            typer.echo("That is less than a week: a month has weekends and month ends too.")
    low, high, unknown = of_the_bill(report.jobs, shares)
    total = sum(job.usd_per_month or 0 for job in report.jobs)
    if unknown < total:
        amount = f"${low:,.2f} to ${high:,.2f}" if round(low, 2) < round(high, 2) else f"${high:,.2f}"
        rest = f", and of ${unknown:,.2f} that is not known" if unknown >= 0.005 else ""
        typer.echo(
            f"Of ${total:,.2f} a month an owned model could answer {amount} at {goal:.0%} agreement with the API{rest}."
        )
    elif total:
        typer.echo(f"How much of ${total:,.2f} a month could be owned is not known yet: capture more.")
    if count := report.unreadable.count:
        typer.echo(f"{count:,} lines are no exchanges, the first is {report.unreadable.first}")
    if report.others:
        typer.echo(f"{report.others / report.requests:.1%} of {report.requests:,.0f} requests belong to no job.")


def _dates(first: str, last: str) -> str:
    begin, end = first[:10], last[:10]
    return begin if begin == end else f"{begin} to {end}"


def _form(job: TrafficJob) -> str:
    form = job.form
    if form.kind == "labels":
        return f"{len(form.names)} labels"
    if form.names:
        return f"{form.kind}: {', '.join(form.names[:4])}{' …' if len(form.names) > 4 else ''}"
    return form.kind


def _share(share: Ownable) -> str:
    if share.low is None or share.high is None:
        return "not known"
    if share.low < share.high:
        return f"{share.low:.0%} to {'all' if share.high == 1 else f'{share.high:.0%}'}"
    return {0.0: "nothing", 1.0: "all"}[share.high]


def _print_job(job: TrafficJob) -> None:
    typer.echo(f"{job.name}: {job.requests:,.0f} requests in {job.days:.1f} days, answers: {_form(job)}")
    if job.failed:
        typer.echo(f"{job.failed:,.0f} requests got no answer.")
    if job.unpriced:
        typer.echo(f"{job.unpriced:,.0f} answers have no token counts, or their model no price: those are not in $.")
    typer.echo(f"\nThe prompt, with {{…}} for what varies:\n\n{job.outline}\n")
    if job.form.kind == "labels":
        typer.echo(f"Labels: {', '.join(job.form.names)}\n")
    for number, each in enumerate(job.drawn[:3], 1):
        answer = each.choice.text or "; ".join(
            f"{call['name']}({call['arguments']})" for call in each.choice.tool_calls
        )
        typer.echo(f"Example {number}\n  input:  {_short(each.input)}\n  answer: {_short(answer)}")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else f"{flat[:299]}…"
