"""What `init` reads off a log besides its answers: the API, its prompt and the traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.guess_files import TEXTS, write
from tunewright.cli.app import command_line
from tunewright.config import load_spec

app = command_line()


def logged(
    model: str | None, answered: str | None, *, hours: float, prompt: str = "Sort it."
) -> list[dict[str, object]]:
    """Calls of a job, that many hours from the first to the last."""
    rows: list[dict[str, object]] = []
    for n, text in enumerate(TEXTS * 5):
        messages = [{"role": "system", "content": prompt.format(n)}, {"role": "user", "content": f"{text} {n}"}]
        choice = {"message": {"role": "assistant", "content": "ab"[n % 2]}, "finish_reason": "stop"}
        time = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hours * n / (5 * len(TEXTS) - 1))
        request = {"messages": messages} | ({"model": model} if model else {})
        response = {"choices": [choice]} | ({"model": answered} if answered else {})
        rows.append({"time": time.isoformat(), "request": request, "response": response})
    return rows


@pytest.mark.parametrize(
    ("model", "answered", "expected", "deployment"),
    [
        ("gpt-6-luna", None, "gpt-6-luna", None),
        ("tickets-prod", "gpt-6-luna-2026-03-05", "gpt-6-luna", "tickets-prod"),
        (None, "gpt-6-luna", "gpt-6-luna", None),
        ("ours", None, "gpt-4o", "ours"),
        (None, None, "gpt-4o", None),
    ],
)
def test_a_log_says_which_api_is_paid_for_today(
    tmp_path: Path, model: str | None, answered: str | None, expected: str, deployment: str | None
) -> None:
    """Not gpt-4o, at twenty times the price of what the log has."""
    write(tmp_path / "log.jsonl", logged(model, answered, hours=10 * 24))
    shown = CliRunner().invoke(app, ["init", str(tmp_path / "log.jsonl")], catch_exceptions=False).stdout
    spec = load_spec(tmp_path)
    assert (spec.api.model, spec.api.deployment) == (expected, deployment)
    assert (f"Its answers are {expected}'s" in shown) == (expected == "gpt-6-luna")
    assert ("Its answers are those of ours, which is not in the price book" in shown) == (model == "ours")
    assert not spec.api.recorded
    assert spec.api.prompt == ("Sort it." if model or answered else None)


@pytest.mark.parametrize(("hours", "expected"), [(10 * 24, 122), (60.88 * 24, 20), (3, 1_000_000)])
def test_a_log_says_how_many_requests_a_month_has(tmp_path: Path, hours: float, expected: int) -> None:
    """A log of a few hours does not: nobody knows what the rest of the month is like."""
    write(tmp_path / "log.jsonl", logged("gpt-6-luna", None, hours=hours))
    shown = CliRunner().invoke(app, ["init", str(tmp_path / "log.jsonl")], catch_exceptions=False).stdout
    assert load_spec(tmp_path).traffic.requests_per_month == expected
    assert (f"40 calls in {hours / 24:.3g} days make {expected:,} a month" in shown) == (hours > 24)


def test_a_call_from_long_before_the_others_does_not_make_a_month_small(tmp_path: Path) -> None:
    rows = [row for _ in range(5) for row in logged("gpt-6-luna", None, hours=10 * 24)]
    write(tmp_path / "log.jsonl", [{**rows[0], "time": "2026-01-01T00:00:00Z"}, *rows])
    CliRunner().invoke(app, ["init", str(tmp_path / "log.jsonl")], catch_exceptions=False)
    assert 600 < load_spec(tmp_path).traffic.requests_per_month < 620


def test_a_prompt_that_changes_is_not_what_the_api_is_asked_with(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", logged("gpt-6-luna", None, hours=48, prompt="Today is day {}. Sort it."))
    CliRunner().invoke(app, ["init", str(tmp_path / "log.jsonl")], catch_exceptions=False)
    assert load_spec(tmp_path).api.prompt is None


def test_a_column_of_the_users_own_that_is_called_like_a_logs_call_is_no_log(tmp_path: Path) -> None:
    calls: list[object] = [{"model": ["x"], "time": {}}, {"model": {}, "time": "noon"}, "none", 3]
    rows: list[dict[str, object]] = [
        {
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ab"[n % 2]}],
            "call": calls[n % 4],
        }
        for n, text in enumerate(TEXTS)
    ]
    write(tmp_path / "chats.jsonl", rows)
    assert CliRunner().invoke(app, ["init", str(tmp_path / "chats.jsonl")], catch_exceptions=False).exit_code == 0
    assert load_spec(tmp_path).api.model == "gpt-4o"
