"""What the gateway keeps of its jobs: modes and who changed them, counts, and the ledger over them."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from tests.monitoring.conftest import address, postgresql, postgresql_server  # noqa: F401 (fixtures)
from tunewright.cli.app import command_line
from tunewright.core.database import database_engine, database_url
from tunewright.core.errors import UserError
from tunewright.economics.prices import price_book
from tunewright.gateway.config import GatewaySpec, JobSpec, UpstreamSpec, is_gateway, load_gateway
from tunewright.gateway.takeover.ledger import ledger
from tunewright.gateway.takeover.store import AMOUNTS, GatewayStore, JobTally, Setting
from tunewright.gateway.takeover.tallies import Tallies

app = command_line()

pytestmark = pytest.mark.slow

OBSERVE, CASCADE = Setting("observe", 1.0, 0.02), Setting("cascade", 0.1, 0.02)
TODAY = datetime.now(UTC).date()


def jobs(mode: str = "observe") -> dict[str, JobSpec]:
    return {"tickets": JobSpec(project=Path("tickets"), mode=mode)}


@pytest.fixture
def store(address: str) -> Any:  # noqa: F811 (the fixture)
    opened = at_address(address)
    yield opened
    opened.close()


@pytest.mark.postgres
def test_the_file_holds_until_somebody_changes_the_mode(store: GatewayStore) -> None:
    store.read_file(jobs())
    assert store.settings(jobs()) == {"tickets": OBSERVE}
    store.change("tickets", CASCADE, OBSERVE, "anna", "the audit looks good")
    assert store.settings(jobs()) == {"tickets": CASCADE}
    (newest, first) = store.changes("tickets")
    assert (newest.by, newest.why, newest.mode) == ("anna", "the audit looks good", "cascade")
    assert (first.by, first.mode) == ("gateway.yaml", "observe")
    assert newest.time.replace(tzinfo=UTC) - datetime.now(UTC) < timedelta(minutes=1)


@pytest.mark.postgres
def test_a_later_change_of_the_file_counts(store: GatewayStore) -> None:
    store.read_file(jobs())
    store.change("tickets", CASCADE, OBSERVE, "anna", "")
    assert store.settings(jobs("own")) == {"tickets": CASCADE}, "looking changes nothing"
    for _ in range(2):
        store.read_file(jobs("own"))
        assert store.settings(jobs("own"))["tickets"].mode == "own"
    assert [each.by for each in store.changes()] == ["gateway.yaml", "anna", "gateway.yaml"]


@pytest.mark.postgres
def test_counts_are_written_over_and_of_several_gateways_added(store: GatewayStore) -> None:
    first, second = Tallies(store), Tallies(store)
    for _ in range(3):
        first.add("tickets", "own", "v1", "gpt-6-luna", requests=1, own_seconds=0.02)
        first.flush()
    second.add("tickets", "own", "v1", requests=2, own_seconds=500.0)
    second.flush()
    second.flush()
    rows = store.tallies()
    assert sorted(each.requests for each in rows) == [2, 3]
    assert sum(sum(each.own_seconds.values()) for each in rows) == 4
    assert {each.model for each in rows} == {"gpt-6-luna", ""}


@pytest.mark.postgres
@pytest.mark.parametrize("model", ["\ud800", "m" * 300, "gpt\0"])
def test_a_model_of_any_name_is_counted_and_so_are_others(store: GatewayStore, model: str) -> None:
    tallies, version = Tallies(store), " > ".join(["http://own:8080/tickets"] * 20)
    tallies.add("tickets", "own", version, model, requests=1, asked=2, sure=1)
    tallies.add("tickets", "own", "v1", "gpt-6-luna", requests=1)
    tallies.flush()
    assert [each.requests for each in store.tallies()] == [1, 1]
    assert store.known("tickets", version) == (2, 1)


@pytest.mark.postgres
@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_a_server_that_takes_no_writes_is_one_paragraph(store: GatewayStore, address: str) -> None:  # noqa: F811
    """As a replica does, which a failover has put in the server's place."""
    reading = at_address(f"{address}%20-cdefault_transaction_read_only%3Don")
    with pytest.raises(UserError, match=r"refuses.*cannot execute INSERT in a read-only transaction"):
        reading.change("tickets", CASCADE, OBSERVE, "anna", "")
    reading.close()
    assert store.changes() == []


def test_counts_that_cant_be_written_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = at(tmp_path / "gateway.db")
    tallies = Tallies(opened)
    tallies.add("tickets", "own", "v1", requests=1)

    def full(_: object) -> None:
        raise UserError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(opened, "save", full)
        with pytest.raises(UserError, match="disk is full"):
            tallies.flush()
    tallies.add("tickets", "own", "v1", requests=1)
    tallies.flush()
    assert [each.requests for each in opened.tallies()] == [2]


def at_address(address: str) -> GatewayStore:  # noqa: F811
    return GatewayStore(database_engine(database_url(address, "database")))


def at(file: Path) -> GatewayStore:
    return GatewayStore(database_engine(URL.create("sqlite", database=str(file))))


def _made(file: Path) -> None:
    store = at(file)
    store.read_file(jobs())
    store.close()


def test_many_gateways_begin_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    starters = [context.Process(target=_made, args=(tmp_path / "gateway.db",)) for _ in range(4)]
    for each in starters:
        each.start()
    for each in starters:
        each.join(60)
        assert each.exitcode == 0


def test_a_store_of_another_version_is_one_paragraph(tmp_path: Path) -> None:
    store = at(tmp_path / "gateway.db")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gateway_schema SET version = 99")
    store.close()
    with pytest.raises(UserError, match=r"Another version .* schema is 99.*Name another file"):
        at(tmp_path / "gateway.db")
    (tmp_path / "text.db").write_text("no database\n" * 200, "utf-8")
    with pytest.raises(UserError, match="This is not a store"):
        at(tmp_path / "text.db")


def tally(day: date, **amounts: Any) -> JobTally:
    fields: dict[str, Any] = {
        "day": day,
        "job": "tickets",
        "mode": "cascade",
        "version": "v1",
        "gateway": "g",
        "model": "gpt-4o",
        "own_seconds": {"20": 90, "30": 10},
        "api_seconds": {"70": 10},
        **dict.fromkeys(AMOUNTS, 0.0),
    }
    return JobTally(**(fields | amounts))


def spec_of(machine: str | None = None) -> GatewaySpec:
    return GatewaySpec(upstreams={"openai": UpstreamSpec(url="openai")}, machine=machine)


def test_the_ledger_prices_own_answers_as_the_api_did() -> None:
    observed = tally(TODAY - timedelta(days=2), requests=100, priced=100, bytes=50_000, paid_usd=2.0)
    owned = tally(
        TODAY - timedelta(days=1),
        requests=100,
        own=80,
        own_bytes=40_000,
        bytes=11_000,
        priced=22,
        paid_usd=0.4,
        audits=2,
        audit_usd=0.04,
        compared=2,
        agreed=2,
    )
    found = ledger(spec_of("Standard_D2s_v5"), [observed, owned], price_book())
    (job,) = found.jobs
    entry = job.days[TODAY - timedelta(days=1)]
    assert entry.spared_usd == pytest.approx(40_000 * 2.44 / 61_000)
    assert entry.machine_usd == pytest.approx(24 * price_book().machine("Standard_D2s_v5").usd_per_hour)
    assert job.days[TODAY - timedelta(days=2)].machine_usd == 0
    assert found.total.api_usd == pytest.approx(2.4 + 1.6)
    assert found.total.saved_usd == pytest.approx(1.6 - 0.04 - entry.machine_usd)
    assert "own models answered 80 of 200 requests" in found.sentence
    assert job.own_seconds["p50"][0] < job.own_seconds["p95"][0]
    assert "gpt-4o leaves" in job.end


def test_a_machine_costs_on_days_without_requests_too() -> None:
    """Own answers on the first and the last of five days, one in shadow between, by two jobs."""
    days = [TODAY - timedelta(days=number) for number in (5, 4, 3, 2, 1)]
    tickets = [tally(days[0], requests=10, own=9), tally(days[2], requests=10), tally(days[4], requests=10, own=6)]
    mails = [tally(day, job="mails", requests=10, own=own) for day, own in ((days[0], 3), (days[4], 2))]
    found = ledger(spec_of("Standard_D2s_v5"), [*tickets, *mails], price_book())
    one, other = found.jobs
    daily = 24 * price_book().machine("Standard_D2s_v5").usd_per_hour
    assert found.total.machine_usd == pytest.approx(5 * daily)
    assert (list(one.days), list(other.days)) == (days, days)
    assert [each.machine_usd for each in one.days.values()] == pytest.approx([0.75 * daily] * 5)


def test_prices_follow_what_was_paid_lately() -> None:
    """A price that fell a year ago does not count any more."""
    old = tally(TODAY - timedelta(days=200), requests=100, bytes=1000, priced=100, paid_usd=100.0)
    new = tally(TODAY - timedelta(days=3), requests=100, bytes=1000, priced=100, paid_usd=1.0)
    owned = tally(TODAY, requests=10, own=10, own_bytes=100)
    found = ledger(spec_of(), [old, new, owned], price_book())
    assert found.jobs[0].days[TODAY].spared_usd == pytest.approx(0.1)
    assert "The machine of the own models is not counted" in found.notes[0]


def test_what_nothing_tells_counts_as_nothing() -> None:
    found = ledger(spec_of(), [tally(TODAY, requests=10, own=10, own_bytes=100)], price_book())
    assert (found.total.spared_usd, found.total.unknown) == (0, 10)
    assert "For 10 own answers nothing tells" in found.notes[1]


@pytest.fixture
def settings(tmp_path: Path, tickets: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{openai: {{url: openai}}}}\njobs: {{tickets: {{project: {tickets}}}}}\n", "utf-8")
    return file


def run(*arguments: object) -> str:
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False).output


def test_the_commands_change_and_show_modes(settings: Path) -> None:
    changed = run("gateway", "mode", "tickets", "cascade", "--share", "0.1", "--why", "a try", "--settings", settings)
    assert "tickets: observe → cascade for 0.1 of the requests." in changed
    shown = run("gateway", "changes", settings)
    assert "tickets  cascade for 0.1 of the requests, by" in shown
    assert ": a try" in shown
    assert "cascade for 0.1" in run("gateway", "jobs", settings)
    listed = json.loads(run("gateway", "jobs", settings, "--json"))
    assert listed["settings"]["tickets"] == {"mode": "cascade", "share": 0.1, "audit": 0.02}


def test_commands_that_show_something_write_nothing_of_a_new_job(settings: Path) -> None:
    assert "tickets: observe as in the file, once a gateway has read it" in run("gateway", "jobs", settings)
    run("gateway", "ledger", settings)
    listed = json.loads(run("gateway", "jobs", settings, "--json"))
    assert listed["settings"]["tickets"]["mode"] == "observe"
    assert json.loads(run("gateway", "changes", settings, "--json")) == []
    assert not load_gateway(settings).store.exists()


def begin(settings: Path) -> None:
    """Read the settings as a gateway does that starts."""
    spec = load_gateway(settings)
    store = at(spec.store)
    store.read_file(spec.jobs)
    store.close()


def test_commands_that_show_something_change_no_mode(settings: Path) -> None:
    begin(settings)
    file = settings.read_text("utf-8")
    settings.write_text(file.replace("tickets}}", "tickets, audit: 0.5}}"), "utf-8")
    assert load_gateway(settings).jobs["tickets"].audit == 0.5
    assert "tickets: observe since" in run("gateway", "jobs", settings)
    run("gateway", "ledger", settings)
    assert [(each["audit"], each["why"]) for each in json.loads(run("gateway", "changes", settings, "--json"))] == [
        (0.02, "first start")
    ]


def test_a_mode_keeps_what_the_file_says_newly(settings: Path) -> None:
    begin(settings)
    file = settings.read_text("utf-8")
    settings.write_text(file.replace("tickets}}", "tickets, audit: 0.5}}"), "utf-8")
    run("gateway", "mode", "tickets", "shadow", "--settings", settings)
    listed = json.loads(run("gateway", "jobs", settings, "--json"))
    assert listed["settings"]["tickets"] == {"mode": "shadow", "share": 1.0, "audit": 0.5}


def test_a_job_or_a_bundle_that_is_not_there_is_one_paragraph(settings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no job 'ticket'.*tickets"):
        run("gateway", "mode", "ticket", "own", "--settings", settings)
    empty = tmp_path / "empty"
    empty.mkdir()
    settings.write_text(f"upstreams: {{openai: {{url: openai}}}}\njobs: {{a: {{project: {empty}}}}}\n", "utf-8")
    with pytest.raises(UserError, match=r"no job\.json.*tunewright init CAPTURES --from-traffic"):
        run("gateway", "mode", "a", "own", "--settings", settings)
    (empty / "job.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="can't recognise a job by this file"):
        run("gateway", "mode", "a", "own", "--settings", settings)


def test_the_ledger_is_shown_written_and_found_by_monitor(settings: Path, tmp_path: Path) -> None:
    assert "No request of a job in these settings has passed" in run("gateway", "ledger", settings)
    store = at(load_gateway(settings).store)
    tallies = Tallies(store)
    tallies.add("tickets", "own", "v1", "gpt-4o", requests=3, own=1, own_bytes=500, bytes=1000, paid_usd=0.5)
    tallies.flush()
    store.close()
    shown = run("gateway", "ledger", settings, "--page", tmp_path / "ledger.html")
    assert "own models answered 1 of 3 requests" in shown
    page = (tmp_path / "ledger.html").read_text("utf-8")
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads(run("gateway", "ledger", settings, "--json"))["total"]["own"] == 1
    assert "own models answered 1 of 3 requests" in run("monitor", "savings", settings)
    assert is_gateway(settings)
    assert not is_gateway(tmp_path)
