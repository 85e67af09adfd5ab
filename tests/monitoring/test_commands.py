"""`tunewright monitor` as it is typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import tunewright, write_project
from tests.monitoring.request_logs import capture, feedback, write
from tunewright.config import load_spec
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.collect import collect
from tunewright.review.acts import ReviewChoice, save

pytestmark = pytest.mark.slow


def test_captures_are_collected_exported_and_deleted(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", monitor={"keep_days": 10})
    old = (datetime.now(UTC) - timedelta(days=11)).isoformat()
    write(project / "captures" / "one", capture("a", time=old), capture("b"), feedback("b"))
    (file,) = (project / "captures").rglob("*.jsonl")
    file.write_text(file.read_text("utf-8") + "broken\n", "utf-8")
    done = tunewright("monitor", "collect", str(project))
    assert done.stdout == (
        "Collected 2 captures and 1 items of feedback.\n1 lines can't be read and were skipped.\n"
    ), done.stderr
    assert json.loads(tunewright("monitor", "collect", str(project), "--json").stdout) == {
        "captures": 0,
        "feedback": 0,
        "repeated": 0,
        "unreadable": 0,
    }
    done = tunewright("monitor", "export", str(project), "--out", str(tmp_path / "out.jsonl"), "--since", "2026-01-01")
    assert done.stdout.endswith("out.jsonl: 2 examples.\n"), done.stderr
    again = tunewright("monitor", "export", str(project), "--out", str(tmp_path / "out.jsonl"))
    assert (again.returncode, "exists" in again.stderr) == (2, True)
    assert (
        "Deleted 1 captures, 0 second opinions and 0 request logs"
        in tunewright("monitor", "prune", str(project)).stdout
    )


def test_a_database_that_is_away_is_told_in_a_paragraph(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", monitor={"database": "MONITOR_URL"})
    done = tunewright("monitor", "collect", str(project), MONITOR_URL="postgresql://me:secret@127.0.0.1:1/none")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "secret" not in done.stderr
    assert "postgresql://127.0.0.1:1/none: The database does not answer" in done.stderr


def test_reviews_are_grown_into_data_that_the_next_check_reads(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    write(project / "captures" / "one", capture("a", request="my money never came back"), capture("b"), feedback("b"))
    spec = load_spec(project)
    store = open_store(spec)
    collect(spec, store)
    with store.session() as session:
        save(session, ["a"], spec.name, "anna", ReviewChoice("refund"), source="review", wanted=1)
    store.close()
    done = tunewright("monitor", "corrections", str(project))
    assert done.stdout.startswith("1 rows added: refund 1\n\n1 rejected: feedback alone. Any client with a key"), (
        done.stderr
    )
    assert "The data now: train 91" in done.stdout
    again = json.loads(tunewright("monitor", "corrections", str(project), "--json").stdout)
    assert (again["number"], again["rows"], again["reasons"]) == (None, 0, {"feedback alone": 1})


def test_savings_are_told_of_what_was_served_up_to_now(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    nothing = tunewright("monitor", "savings", str(project))
    assert (nothing.returncode, nothing.stdout.startswith("There are no captures yet.")) == (0, True)
    write(project / "captures", capture("a", prompt_tokens=500, answer_tokens=20, seconds=0.05))
    done = tunewright("monitor", "savings", str(project))
    assert "gpt-4o" in done.stdout and "1 requests" in done.stdout, done.stderr
