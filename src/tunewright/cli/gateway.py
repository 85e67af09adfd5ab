"""`tunewright gateway`: the server between applications and the APIs that they pay for."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunewright.cli.options import JsonOption, console_of, print_json, with_default

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunewright.gateway.config import GatewaySpec
    from tunewright.gateway.takeover.ledger import GatewayLedger, Reviews
    from tunewright.gateway.takeover.store import GatewayStore, ModeChange, Setting

app = typer.Typer(
    cls=with_default("run"),
    help="Run the gateway between your applications and the APIs that they pay for: tunewright gateway gateway.yaml",
    no_args_is_help=True,
)

SettingsOption = Annotated[
    Path, typer.Option("--settings", help="The gateway's settings.", envvar="TUNEWRIGHT_GATEWAY")
]
SettingsArgument = Annotated[Path, typer.Argument(help="The gateway's settings.", envvar="TUNEWRIGHT_GATEWAY")]
_SETTINGS = Path("gateway.yaml")


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="The gateway's settings.", envvar="TUNEWRIGHT_GATEWAY")],
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="TUNEWRIGHT_GATEWAY_HOST")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 takes any free one.", envvar="TUNEWRIGHT_GATEWAY_PORT"
        ),
    ] = 8081,
) -> None:
    """Pass requests to the upstreams of a file, and capture what it says. `run` may be left out.

    Applications change their base_url to this server's, with /v1 behind it, and nothing else."""
    from tunewright.gateway.server import serve_gateway

    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end of a server
        serve_gateway(file, host, port)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of gateway.yaml."""
    from tunewright.config.descriptions import described_schema
    from tunewright.gateway.config import GatewaySpec

    print_json(described_schema(GatewaySpec))


@app.command("mode")
def mode(
    job: Annotated[str, typer.Argument(help="The job, by its name in gateway.yaml.")],
    mode: Annotated[
        Literal["observe", "shadow", "cascade", "own"],
        typer.Argument(
            help="observe: the API answers. shadow: both answer, the client gets the API's. cascade: the own model "
            "where it is sure, else the API. own: the own model, the API where that fails."
        ),
    ],
    share: Annotated[
        float | None, typer.Option(min=0.0001, max=1, help="The share of the requests. (default: all)")
    ] = None,
    audit: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The share of own answers to compare with the API's. (default: as before)"),
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, for the list of changes.")] = "",
    settings: SettingsOption = _SETTINGS,
) -> None:
    """Change how a job is answered. Running gateways follow within seconds, and the change is kept with your name."""
    from tunewright.core.errors import UserError, did_you_mean
    from tunewright.core.processes import whoami
    from tunewright.gateway.takeover.checks import check_mode
    from tunewright.gateway.takeover.store import Setting, of_file

    with _opened(settings, make=True) as (spec, store):
        if job not in spec.jobs:
            otherwise = f"It has: {', '.join(spec.jobs) or 'none; see docs/gateway.md'}"
            raise UserError(f"There is no job '{job}'.", where=settings, fix=did_you_mean(job, spec.jobs, otherwise))
        check_mode(spec.jobs[job], mode)
        store.read_file({job: spec.jobs[job]})
        before = store.settings(spec.jobs)[job]
        after = Setting(mode, 1.0 if share is None else share, before.audit if audit is None else audit)
        store.change(job, after, of_file(spec.jobs[job]), whoami(), why)
    typer.echo(f"{job}: {before} → {after}. Running gateways follow within seconds.")


@app.command("jobs")
def jobs(settings: SettingsArgument = _SETTINGS, json: JsonOption = False) -> None:
    """Show how each job is answered, how often the own model agrees with the API, and how fast both are."""
    with _opened(settings) as (spec, store):
        now, found = store.settings(spec.jobs), _ledger(spec, store)
        changes = {each.job: each for each in reversed(store.changes())}
    if json:
        modes = {name: vars(setting) for name, setting in now.items()}
        print_json({"settings": modes, "jobs": [_plain(job) for job in found.jobs]})
    else:
        _print_jobs(now, found)
        for name, setting in now.items():
            typer.echo(f"{name}: {_since(setting, changes.get(name))}")


@app.command("ledger")
def show_ledger(
    settings: SettingsArgument = _SETTINGS,
    page: Annotated[Path | None, typer.Option(help="Write a page for the browser to this file, too.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what the jobs cost and saved to date, by month: the API alone, what was paid, audits, and the machine."""
    from tunewright.gateway.takeover.page import write_page

    with _opened(settings) as (spec, store):
        found, now, changes = _ledger(spec, store), store.settings(spec.jobs), store.changes()
    if json:
        days = {job.name: {str(day): vars(entry) for day, entry in job.days.items()} for job in found.jobs}
        print_json(
            {
                "sentence": found.sentence,
                "notes": found.notes,
                "total": vars(found.total) | {"api_usd": found.total.api_usd, "saved_usd": found.total.saved_usd},
                "jobs": [_plain(job) | {"days": days[job.name]} for job in found.jobs],
            }
        )
    else:
        _print_ledger(found)
    if page:
        write_page(page, found, now, changes)
        typer.echo(f"Wrote {page}", err=json)


@app.command("changes")
def changes(settings: SettingsArgument = _SETTINGS, json: JsonOption = False) -> None:
    """List all changes of how jobs are answered, the newest first: when, who, and why."""
    with _opened(settings) as (_, store):
        found = store.changes()
    if json:
        names = ("time", "job", "mode", "share", "audit", "by", "why")
        print_json([{name: getattr(each, name) for name in names} for each in found])
        return
    for each in found:
        why = f": {each.why}" if each.why else ""
        typer.echo(f"{each.time:%Y-%m-%d %H:%M:%S} UTC  {each.job}  {each.setting}, by {each.by}{why}")


def _print_ledger(found: GatewayLedger) -> None:
    """Print a ledger by month."""
    from rich.table import Table

    from tunewright.gateway.takeover.ledger import SavedSums

    if not found.jobs:
        typer.echo("No request of a job in these settings has passed the gateway yet.")
        return
    months: dict[tuple[str, str], SavedSums] = {}
    for job in found.jobs:
        for day, entry in job.days.items():
            months.setdefault((f"{day:%Y-%m}", job.name), SavedSums()).add(entry)
    table = Table(header_style="bold")
    table.add_column("month")
    table.add_column("job", overflow="fold")
    for column in ("requests", "own", "corrected", "API alone", "paid", "audits", "machine", "saved"):
        table.add_column(column, justify="right")
    for (month, name), entry in [*sorted(months.items()), (("total", ""), found.total)]:
        usd = (entry.api_usd, entry.paid_usd, entry.audit_usd, entry.machine_usd, entry.saved_usd)
        table.add_row(
            month,
            name,
            f"{entry.requests:,.0f}",
            f"{entry.own:,.0f}",
            f"{entry.corrected:,.0f} of {entry.reviewed:,.0f}" if entry.reviewed else "",
            *(f"${amount:,.2f}" for amount in usd),
            style="bold" if month == "total" else None,
        )
    console_of(120).print(table)
    typer.echo(found.sentence)
    for line in [*found.notes, *(f"{job.name}: {job.end}" for job in found.jobs if job.end)]:
        typer.echo(line)


def _since(setting: Setting, change: ModeChange | None) -> str:
    """How a job is answered, since when, and who changed that; None: nobody, because no gateway has begun with it."""
    if change is None:
        return f"{setting} as in the file, once a gateway has read it"
    why = f": {change.why}" if change.why else ""
    return f"{change.mode} since {change.time:%Y-%m-%d %H:%M} UTC, by {change.by}{why}"


@contextmanager
def _opened(settings: Path, *, make: bool = False) -> Iterator[tuple[GatewaySpec, GatewayStore]]:
    """The settings and their store, which a command makes only if it writes."""
    from tunewright.gateway.config import load_gateway
    from tunewright.gateway.takeover.store import open_store

    spec = load_gateway(settings)
    store = open_store(spec, make=make)
    try:
        yield spec, store
    finally:
        store.close()


def _ledger(spec: GatewaySpec, store: GatewayStore) -> GatewayLedger:
    from tunewright.economics.prices import price_book
    from tunewright.gateway.takeover.ledger import ledger

    reviews, notes = _reviews(spec)
    found = ledger(spec, store.tallies(), price_book(spec.prices), reviews)
    found.notes += notes
    return found


def _reviews(spec: GatewaySpec) -> tuple[dict[str, Reviews], list[str]]:
    """(the reviews of each job, why those of a job are not known). The ledger is shown without them."""
    from tunewright.core.errors import UserError

    found: dict[str, Reviews] = {}
    notes = []
    for name, job in spec.jobs.items():
        try:
            from tunewright.monitoring.reviewed import reviews_by_day

            found[name] = reviews_by_day(job.project)
        except (UserError, ImportError) as error:
            reason = error.paragraph() if isinstance(error, UserError) else f"{error}."
            notes.append(f"{name}: corrections are not known. {reason}")
    return found, notes


def _print_jobs(now: dict[str, Setting], found: GatewayLedger) -> None:
    from rich.table import Table

    table = Table(header_style="bold")
    for column in ("job", "answered by"):
        table.add_column(column, overflow="fold")
    for column in ("requests", "own", "agreement", "own P50, P95 ms", "API P50, P95 ms"):
        table.add_column(column, justify="right")
    jobs = {job.name: job for job in found.jobs}
    for name, setting in now.items():
        job = jobs.get(name)
        if job is None:
            table.add_row(name, str(setting), "0", "0", "", "", "")
            continue
        quality = next(reversed(job.quality.values()), None)
        agreement = (
            f"{quality.agreement:.1%} ({quality.low:.1%} to {quality.high:.1%}) of {quality.compared:,.0f}"
            if quality
            else "not compared"
        )
        latencies = (
            f"{1000 * each['p50'][0]:,.0f}, {1000 * each['p95'][0]:,.0f}" if each else ""
            for each in (job.own_seconds, job.api_seconds)
        )
        table.add_row(name, str(setting), f"{job.total.requests:,.0f}", f"{job.total.own:,.0f}", agreement, *latencies)
    console_of(140).print(table)


def _plain(job: object) -> dict[str, object]:
    from dataclasses import asdict

    fields = asdict(job)  # type: ignore[call-overload]
    del fields["days"]
    return dict(fields)
