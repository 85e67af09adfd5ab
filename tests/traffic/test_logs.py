"""Jobs in logs that others wrote."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faker import Faker
from typer.testing import CliRunner

from tunewright.cli.app import command_line
from tunewright.core.errors import UserError
from tunewright.traffic.jobs import find_jobs

app = command_line()

LABELS = ("billing", "delivery", "account")
pytestmark = pytest.mark.slow


def pairs(count: int) -> Iterator[dict[str, Any]]:
    """Requests of two jobs beside their responses, with what such a log has."""
    fake, chance = Faker(), random.Random(0)
    fake.seed_instance(0)
    for number in range(count):
        label = chance.choice(LABELS)
        text = f"{fake.sentence()} It is about {label}."
        sorts = number % 3 < 2
        system = "Sort the customer's message: billing, delivery or account." if sorts else "Translate it into French."
        answer = label if sorts else fake.paragraph()
        request = {
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        }
        choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        yield {
            "timestamp": f"2026-11-{1 + number * 20 // count:02}T08:00:00Z",
            "requestBody": request,
            "responseBody": {"model": "gpt-4o-2024-08-06", "choices": [choice], "usage": usage},
        }


@pytest.fixture(params=["requestBody responseBody", "request response"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same log with other keys."""
    asked, answered = request.param.split()
    file = tmp_path / "log.jsonl"
    named = ({asked: row.pop("requestBody"), answered: row.pop("responseBody"), **row} for row in pairs(450))
    file.write_text("".join(json.dumps(row) + "\n" for row in named), "utf-8")
    return file


def test_the_jobs_of_a_mixed_log_are_found_and_priced(log: Path) -> None:
    report = find_jobs(log)
    sorting, translating = sorted(report.jobs, key=lambda job: -job.requests)
    assert (sorting.requests, translating.requests) == (300, 150)
    assert sorting.system.startswith("Sort the customer's message")
    assert sorted(sorting.form.names) == sorted(LABELS)
    assert sorting.usd == pytest.approx(300 * (100 * 2.5 + 10 * 10) / 1e6)
    assert report.days == pytest.approx(19)
    assert not report.unreadable.count


@pytest.mark.parametrize(("tier", "factor"), [("flex", 0.5), ("default", 1), ("batch", 0.5)])
def test_a_log_costs_what_its_service_tiers_do(tier: str, factor: float, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    rows = list(pairs(300))
    for row in rows:
        row["responseBody"]["service_tier"] = tier
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert sum(job.usd or 0 for job in find_jobs(file).jobs) == pytest.approx(factor * 300 * 350 / 1e6)


def test_a_project_is_made_of_one(log: Path, tmp_path: Path) -> None:
    name = max(find_jobs(log).jobs, key=lambda job: job.requests).name
    done = CliRunner().invoke(app, ["init", str(log), "--from-traffic", name, "--out", str(tmp_path / "made")])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 300
    assert all(row["label"] in row["text"] for row in rows)
    assert (tmp_path / "made" / "job.json").exists()


def test_a_log_without_times_counts_as_a_month(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    rows = [{name: value for name, value in row.items() if name != "timestamp"} for row in pairs(300)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    shown = CliRunner().invoke(app, ["traffic", "ls", str(file)])
    assert "The log has no times, so all of it counts as one month." in shown.output
    assert find_jobs(file).jobs[0].months == 1


def test_one_time_of_zero_does_not_change_a_month(tmp_path: Path) -> None:
    rows = [{**row, "timestamp": 0} if number == 3 else row for number, row in enumerate(pairs(60))]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    report = find_jobs(file)
    assert (report.requests, report.outliers) == (60, None)
    assert report.days == pytest.approx(19)


def test_a_log_that_cant_be_read_says_why(tmp_path: Path) -> None:
    row = {"time": "2026-11-01T00:00:00Z", "category": "RequestResponse", "properties": "{}"}
    azures, wide, empty = (tmp_path / f"{name}.jsonl" for name in ("azure", "wide", "empty"))
    azures.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n", "utf-8")
    wide.write_text(json.dumps(next(pairs(1))) + "\n", "utf-16")
    empty.touch()
    for file, told in ((azures, "first of 2 lines.*azure.jsonl:1 .*another form"), (wide, "UTF-16")):
        with pytest.raises(UserError, match=told) as caught:
            find_jobs(file)
        assert "gateway" not in str(caught.value)
    with pytest.raises(UserError, match=r"no calls of a language model") as caught:
        find_jobs(empty)
    assert "gateway.yaml" not in str(caught.value)


def test_lines_that_are_no_call_are_told_and_nothing_else_is_lost(log: Path) -> None:
    with log.open("a") as file:
        file.write('{"request": {"model": "gpt-4o", "mess')
    report = find_jobs(log)
    assert report.requests == 450
    assert report.unreadable.count == 1
    assert "log.jsonl:451" in report.unreadable.first
    assert "cut off" in report.unreadable.first
