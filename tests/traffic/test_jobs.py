"""What each job in captured traffic costs, takes and answers."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faker import Faker
from typer.testing import CliRunner

from tests.traffic.test_grouping import Maker, chat, short_to_french, with_a_template, with_a_tool
from tunewright.cli.app import command_line
from tunewright.core.errors import UserError
from tunewright.economics.usage import TokenUsage
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.config import CaptureSpec
from tunewright.gateway.exchanges import ExchangeLog
from tunewright.traffic.jobs import TrafficJob, TrafficReport, find_jobs
from tunewright.traffic.ownable import of_the_bill, ownable
from tunewright.traffic.sources import Unreadable

app = command_line()

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
LABELS = ("billing", "delivery", "account")


class Traffic:
    """Writes captures as the gateway does."""

    def __init__(self, folder: Path, share: float = 1.0):
        self._log = ExchangeLog(CaptureSpec(folder=folder, share=share))
        self._fake, self._chance = Faker(), random.Random(3)
        self._fake.seed_instance(3)
        self._count = 0

    def add(self, make: Maker, count: int, choice: AnswerChoice | None = None, **fields: Any) -> None:
        for number in range(count):
            self._count += 1
            begun = BEGUN + timedelta(minutes=self._count)
            made = {
                "id": str(self._count),
                "time": begun.isoformat(),
                "upstream": "openai",
                "kind": "chat",
                "path": "/v1/chat/completions",
                "client": None,
                "model": "gpt-6-luna",
                "request": make(self._fake, self._chance),
                "request_bytes": 500,
                "status": 200,
                "choices": [choice or AnswerChoice(LABELS[number % 3])],
                "usage": TokenUsage(100, 2, 50),
                "usd": 0.001,
                "seconds": 0.5 + number / 1000,
                "share": self._log.share,
            }
            assert self._log.keep(made | fields)

    def text(self) -> str:
        return str(self._fake.paragraph(nb_sentences=2))

    def close(self) -> None:
        self._log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The captures of three jobs and of some other requests."""
    folder = tmp_path / "captures"
    traffic = Traffic(folder)
    traffic.add(with_a_template, 200)
    traffic.add(with_a_template, 10, status=429, choices=[], usage=None, usd=None)
    traffic.add(short_to_french, 100, AnswerChoice("Bonjour tout le monde"), usd=None, usage=None)
    called = AnswerChoice(tool_calls=[{"name": "save", "arguments": '{"total": 3}'}])
    traffic.add(with_a_tool, 50, called, usd=0.01)
    traffic.add(lambda fake, _: {"messages": [{"role": "user", "content": fake.paragraph()}]}, 30)
    traffic.close()
    return folder


def by_name(report: TrafficReport, beginning: str) -> TrafficJob:
    (found,) = [job for job in report.jobs if job.name.startswith(beginning)]
    return found


def test_jobs_have_counts_tokens_and_dollars(folder: Path) -> None:
    report = find_jobs(folder)
    assert (report.requests, report.others, len(report.jobs)) == (390, 30, 3)
    intents = by_name(report, "which-intent")
    assert (intents.requests, intents.failed, intents.unpriced) == (210, 10, 0)
    assert (intents.prompt_tokens, intents.cached_tokens, intents.answer_tokens) == (20_000, 10_000, 400)
    assert intents.usd == pytest.approx(0.2)
    assert intents.days == pytest.approx(389 / 1440)
    assert intents.usd_per_month == pytest.approx(0.2 * 30.44 / intents.days)
    assert intents.models == {"gpt-6-luna": 210}
    assert intents.quantile(0.5) == pytest.approx(0.6, abs=0.01)


def test_the_dearest_job_comes_first_and_unknown_prices_are_unknown(folder: Path) -> None:
    report = find_jobs(folder)
    assert [job.form.kind for job in report.jobs] == ["tool calls", "labels", "short text"]
    assert (report.jobs[2].usd_per_month, report.jobs[2].unpriced) == (None, 100)


def test_answers_are_known_by_their_form(folder: Path) -> None:
    report = find_jobs(folder)
    intents, french, tool = (by_name(report, name) for name in ("which-intent", "translate", "save"))
    assert (intents.form.kind, sorted(intents.form.names)) == ("labels", sorted(LABELS))
    assert french.form.kind == "short text"
    assert (tool.form.kind, tool.form.names) == ("tool calls", ["save"])


def test_the_prompt_is_cut_into_what_is_fixed_and_what_varies(folder: Path) -> None:
    report = find_jobs(folder)
    assert by_name(report, "which-intent").outline.startswith('Which intent has this request?\n\nRequest: "{…}')
    french = by_name(report, "translate")
    assert french.outline == "Translate to French: {…}"
    assert all(each.input and not each.input.startswith("Translate") for each in french.drawn)


def test_a_share_stands_for_all(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "kept", share=0.1)
    traffic.add(with_a_template, 100)
    traffic.close()
    (job,) = find_jobs(tmp_path / "kept").jobs
    assert job.requests == pytest.approx(1000)
    assert job.usd == pytest.approx(1.0)


@pytest.mark.parametrize(
    "named", ["deep/eu/one", "deep/eu/one/*.jsonl", "deep/eu/one/exchanges-1.jsonl", "deep", "deep/**"]
)
def test_captures_stand_for_all_however_they_are_named(named: str, tmp_path: Path) -> None:
    captured(tmp_path / "deep" / "eu" / "one")
    report = find_jobs(tmp_path / named)
    assert report.requests == pytest.approx(360)  # audits are no requests
    assert not report.unreadable.count


def test_captures_stand_for_all_beside_another_log(tmp_path: Path) -> None:
    captured(tmp_path / "deep" / "eu" / "one")
    row = {"request": chat(("user", "Hi")), "response": "Hello"}
    (tmp_path / "deep" / "log.jsonl").write_text(json.dumps(row) + "\n")
    assert find_jobs(tmp_path / "deep").requests == pytest.approx(331)  # calls for embeddings are no model's
    (tmp_path / "deep" / "eu" / "log.jsonl").write_text(json.dumps(row) + "\n")
    assert find_jobs(tmp_path / "deep" / "eu").requests == pytest.approx(360)  # the folder of a gateway


def captured(folder: Path) -> None:
    """A file of captures that stand for 360 requests, 30 of them for embeddings."""
    traffic = Traffic(folder, share=0.1)
    traffic.add(with_a_template, 33)
    traffic.add(with_a_template, 4, is_audit=True)
    traffic.add(lambda *_: {"input": "Hi"}, 3, choices=[], kind="embeddings")
    traffic.close()
    (file,) = folder.iterdir()
    file.rename(folder / "exchanges-1.jsonl")


def test_a_few_calls_that_make_up_most_of_the_time_are_told(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "kept")
    traffic.add(with_a_template, 119)
    traffic.add(with_a_template, 1, time="2020-02-01T00:00:00+00:00")
    traffic.close()
    shown = " ".join(CliRunner().invoke(app, ["traffic", "ls", str(tmp_path / "kept")]).stdout.split())
    assert "2020-02-01 to 2026-11-01" in shown
    assert "only 1 of 120 calls. The others are of 2026-11-01." in shown
    report = json.loads(CliRunner().invoke(app, ["traffic", "ls", str(tmp_path / "kept"), "--json"]).stdout)
    assert report["first"].startswith("2020-02-01T00:00:00")
    assert report["last"].startswith("2026-11-01T01:59:00")
    assert report["outliers"]["calls"] == 1


@pytest.mark.slow
def test_a_line_that_a_kill_cut_short_is_passed_over_and_others_are_told(folder: Path) -> None:
    (file,) = folder.iterdir()
    with file.open("ab") as lines:
        lines.write(b'no exchange\n{"id": 3}\n{"id": "half')
    report = find_jobs(folder)
    assert (report.requests, report.unreadable) == (390, Unreadable(2, f"{file.name}:391"))
    shown = CliRunner().invoke(app, ["traffic", "ls", str(folder)]).stdout
    assert f"2 lines are no exchanges, the first is {file.name}:391" in shown


@pytest.mark.slow
def test_the_table_has_every_job(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["traffic", "ls", str(folder)])
    assert shown.exit_code == 0
    for text in ("which-intent", "translate-french", "save", "3 labels", "short text", "unknown", "6.5 hours"):
        assert text in shown.stdout
    assert "7.7% of 390 requests belong to no job." in shown.stdout


@pytest.mark.slow
def test_settings_of_a_gateway_name_the_folder(folder: Path) -> None:
    settings = folder.parent / "gateway.yaml"
    settings.write_text("upstreams: {openai: {url: openai}}\ncapture: {folder: captures}\n", "utf-8")
    shown = CliRunner().invoke(app, ["traffic", "ls", str(settings), "--json"])
    told = json.loads(shown.stdout)
    assert told["requests"] == 390
    assert {job["form"]["kind"] for job in told["jobs"]} == {"tool calls", "labels", "short text"}
    assert all(len(job["examples"]) == 3 for job in told["jobs"])
    assert all(job.keys().isdisjoint({"drawn", "prompts", "template", "fixed", "rivals"}) for job in told["jobs"])


@pytest.mark.slow
def test_a_job_is_shown_with_its_prompt_and_examples(folder: Path) -> None:
    name = by_name(find_jobs(folder), "which-intent").name
    shown = CliRunner().invoke(app, ["traffic", "show", str(folder), name]).stdout
    assert 'Request: "{…}' in shown
    assert "Labels: billing, delivery, account" in shown
    assert shown.count("  answer: ") == 3


@pytest.mark.slow
def test_wrong_input_is_one_paragraph(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no job 'which'.*tunewright traffic ls"):
        CliRunner().invoke(app, ["traffic", "show", str(folder), "which"], catch_exceptions=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There are no captured requests here"):
        find_jobs(tmp_path / "empty")
    for given, told in (("nothing", "There is no such file or folder"), ("nothing.yaml", "There are no settings here")):
        with pytest.raises(UserError, match=told):
            CliRunner().invoke(app, ["traffic", "ls", str(tmp_path / given)], catch_exceptions=False)
    settings = tmp_path / "g.yaml"
    settings.write_text("upstreams: {openai: {url: openai}}\ncapture: {folder: to_come}\n", "utf-8")
    with pytest.raises(UserError, match=r"There are no captured requests here.*tunewright gateway .*g\.yaml"):
        CliRunner().invoke(app, ["traffic", "ls", str(settings)], catch_exceptions=False)
    settings.write_text("upstreams: {openai: {url: openai}}\n", "utf-8")
    with pytest.raises(UserError, match="This gateway captures nothing"):
        CliRunner().invoke(app, ["traffic", "ls", str(settings)], catch_exceptions=False)


@pytest.mark.slow
def test_what_could_be_owned_is_forecast_from_the_captured_answers(tmp_path: Path) -> None:
    """Words that decide the label, and labels that no word tells."""
    traffic = Traffic(tmp_path / "kept")
    chance = random.Random(4)
    for number in range(450):
        label = LABELS[number % 3]
        made = chat(("system", SORTED), ("user", f"{traffic.text()} It is about {label} number {chance.random()}."))
        traffic.add(lambda *_, made=made: made, 1, AnswerChoice(label))
        other = chat(("system", GUESSED), ("user", traffic.text()))
        traffic.add(lambda *_, other=other: other, 1, AnswerChoice(chance.choice(LABELS)), usd=0.003)
    traffic.add(with_a_tool, 30, AnswerChoice(tool_calls=[{"name": "save", "arguments": "{}"}]), usd=0.01)
    traffic.close()
    report = find_jobs(tmp_path / "kept")
    shares = {job.name.partition("-")[0]: ownable(job, 0.9) for job in report.jobs}
    assert (shares["sort"].low, shares["sort"].high) == (1.0, 1.0)
    assert (shares["guess"].low, shares["guess"].high) == (0.0, 0.0)
    assert shares["save"].low is None
    monthly = {job.name.partition("-")[0]: job.usd_per_month or 0 for job in report.jobs}
    low, high, unknown = of_the_bill(report.jobs, [shares[job.name.partition("-")[0]] for job in report.jobs])
    assert low == high == pytest.approx(monthly["sort"])
    assert unknown == pytest.approx(monthly["save"])
    shown = CliRunner().invoke(app, ["traffic", "ls", str(tmp_path / "kept")]).stdout
    assert "nothing" in shown and "not known" in shown
    assert f"an owned model could answer ${low:,.2f} at 90% agreement" in " ".join(shown.split())


SORTED = "Sort the message into one of the three queues of our shop: billing, delivery or account. One word only."
GUESSED = "Guess which colleague will take this: they are called billing, delivery and account. Give just that name."
