"""`tunewright traffic`: the jobs in what the gateway captured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright.cli.options import JsonOption, console_of, print_json

if TYPE_CHECKING:
    from tunewright.traffic.jobs import Job, TrafficReport

app = typer.Typer(help="Find the jobs in captured traffic: what each costs, takes and answers.", no_args_is_help=True)

CapturesArgument = Annotated[
    Path, typer.Argument(help="The folder of the gateway's captures, or the gateway.yaml that names it.")
]


@app.command("ls")
def ls(captures: CapturesArgument, json: JsonOption = False) -> None:
    """List the jobs, the dearest first, with requests and dollars of a month like the captured time."""
    from tunewright.traffic.jobs import find_jobs

    report = find_jobs(captures_folder(captures))
    if json:
        print_json({**vars(report), "jobs": [_plain(job) for job in report.jobs]})
    else:
        _print_jobs(report)


@app.command("show")
def show(
    captures: CapturesArgument,
    job: Annotated[str, typer.Argument(help="The job's name, as `tunewright traffic ls` prints it.")],
) -> None:
    """Show one job: its prompt, what varies in it, its answers, and examples."""
    from tunewright.core.errors import UserError, did_you_mean
    from tunewright.traffic.jobs import find_jobs

    folder = captures_folder(captures)
    jobs = {each.name: each for each in find_jobs(folder).jobs}
    if job not in jobs:
        raise UserError(
            f"There is no job '{job}'.", fix=did_you_mean(job, jobs, f"See: tunewright traffic ls {captures}")
        )
    _print_job(jobs[job])


def captures_folder(captures: Path) -> Path:
    """The folder of captures that a user names, by itself or by the settings of the gateway."""
    from tunewright.core.errors import UserError
    from tunewright.gateway.config import load_gateway

    if captures.is_dir():
        return captures
    if captures.suffix not in (".yaml", ".yml"):
        raise UserError(
            "There is no such folder.", where=captures, fix="Name the folder of captures, or the gateway.yaml."
        )
    spec = load_gateway(captures)
    if spec.capture is None:
        raise UserError(
            "This gateway captures nothing.", where=captures, fix="Add two lines: capture: and  folder: captures"
        )
    return spec.capture.folder


def _plain(job: Job) -> dict[str, Any]:
    told = asdict(job)
    del told["drawn"], told["seconds"]
    latency = {"p50_seconds": job.quantile(0.5), "p95_seconds": job.quantile(0.95)}
    return {**told, **latency, "usd_per_month": job.usd_per_month, "examples": [asdict(each) for each in job.drawn[:3]]}


def _print_jobs(report: TrafficReport) -> None:
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("job", overflow="fold")
    for column in ("requests a month", "$ a month", "P50 ms", "P95 ms"):
        table.add_column(column, justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("answers", overflow="fold")
    for job in report.jobs:
        usd = job.usd_per_month
        table.add_row(
            job.name,
            f"{job.requests * job.months:,.0f}",
            "unknown" if usd is None else f"{usd:,.2f}",
            f"{1000 * job.quantile(0.5):,.0f}",
            f"{1000 * job.quantile(0.95):,.0f}",
            next(iter(job.models), ""),
            _form(job),
        )
    console_of(140).print(table)
    if report.jobs:
        days = report.jobs[0].days
        captured = f"{days:.1f} days" if days >= 2 else f"{24 * days:.1f} hours"
        typer.echo(f"A month is {captured} of captures, scaled to 30.44 days.")
        if days < 7:
            typer.echo("That is less than a week: a month has weekends and month ends too.")
    if report.unreadable:
        typer.echo(f"{len(report.unreadable):,} lines are no captures, the first is {report.unreadable[0]}.")
    if report.others:
        typer.echo(f"{report.others / report.requests:.1%} of {report.requests:,.0f} requests belong to no job.")


def _form(job: Job) -> str:
    form = job.form
    if form.kind == "labels":
        return f"{len(form.names)} labels"
    if form.names:
        return f"{form.kind}: {', '.join(form.names[:4])}{' …' if len(form.names) > 4 else ''}"
    return form.kind


def _print_job(job: Job) -> None:
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
