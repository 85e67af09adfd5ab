"""Captures as training data: who said what is right, in a form that the project's own readers take."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.request_logs import TIME, capture, feedback, write
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.readers import Note, read
from tunewright.monitoring.store import Store, tables
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.export import export
from tunewright.tasks import Example


def review(identity: str, answer: str | None, **changes: Any) -> tables.Review:
    usual: dict[str, Any] = {"reviewer": "me", "time": datetime.fromisoformat(TIME), "source": "review", "right": False}
    return tables.Review(capture_id=identity, answer=answer, **usual | changes)


def rows(file: Path) -> dict[str, tuple[str, str, str | None]]:
    """By id: the answer, its source, and who gave it."""
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return {
        row["meta"]["id"]: (row["messages"][-1]["content"], row["meta"]["source"], row["meta"]["reviewer"])
        for row in found
    }


@pytest.fixture
def filled(store: Store, spec: Spec, folder: Path) -> Store:
    write(
        folder,
        *(capture(name) for name in "abcdefg"),
        capture("h", model="another"),
        *(feedback(name, by="shop") for name in "bch"),
    )
    collect(spec, store)
    later = datetime.fromisoformat(TIME) + timedelta(hours=1)
    with store.session() as session:
        session.add_all(
            [
                review("c", "defect"),
                review("d", None, right=True, source="bulk"),
                review("e", None),
                review("f", "refund", undone=later, undone_by="me"),
                review("g", "refund", time=later),
                review("g", "defect"),
            ]
        )
    return store


def test_the_right_answer_is_what_an_expert_said_last(filled: Store, spec: Spec, tmp_path: Path) -> None:
    assert export(spec, filled, tmp_path / "all.jsonl") == 6
    expected: dict[str, tuple[str, str, str | None]] = {
        "a": ("billing", "model", None),
        "b": ("refund", "feedback", "shop"),
        "c": ("defect", "review", "me"),
        "d": ("billing", "bulk", "me"),
        "f": ("billing", "model", None),
        "g": ("refund", "review", "me"),
    }
    assert rows(tmp_path / "all.jsonl") == expected, "e has no right answer, h is another model's"
    assert stat.S_IMODE((tmp_path / "all.jsonl").stat().st_mode) == 0o600


def test_what_is_exported_can_be_trained_on(filled: Store, spec: Spec, tmp_path: Path) -> None:
    count = export(spec, filled, tmp_path / "train.jsonl")
    found = [each for each in read(tmp_path / "train.jsonl") if not isinstance(each, Note)]
    assert all(isinstance(each, Example) for each in found), "no faults"
    examples = {(each.request, each.answer) for each in found if isinstance(each, Example)}
    assert len(examples) == count
    assert ("request c", "defect") in examples


def test_only_what_was_looked_at_where_that_is_asked_for(filled: Store, spec: Spec, tmp_path: Path) -> None:
    assert export(spec, filled, tmp_path / "some.jsonl", reviewed=True) == 4
    assert rows(tmp_path / "some.jsonl").keys() == {"b", "c", "d", "g"}


@pytest.mark.slow
def test_only_what_was_asked_since(store: Store, spec: Spec, folder: Path, tmp_path: Path) -> None:
    times = [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=minute % 1200) for minute in range(1500)]
    write(folder, *(capture(f"{n:04d}", time=time.isoformat()) for n, time in enumerate(times)))
    collect(spec, store)
    since = datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert export(spec, store, tmp_path / "late.jsonl", since=since) == sum(time >= since for time in times)
    found = [json.loads(line)["meta"] for line in (tmp_path / "late.jsonl").read_text("utf-8").splitlines()]
    assert len({meta["id"] for meta in found}) == len(found), "pages don't overlap"
    assert [meta["time"] for meta in found] == sorted(meta["time"] for meta in found)


def test_an_existing_file_is_refused_and_left_alone(filled: Store, spec: Spec, tmp_path: Path) -> None:
    target = tmp_path / "there.jsonl"
    target.write_text("mine")
    with pytest.raises(UserError, match="exists"):
        export(spec, filled, target)
    with pytest.raises(UserError, match="No such file"):
        export(spec, filled, tmp_path / "nowhere" / "out.jsonl")
    assert target.read_text() == "mine"
    assert not list(tmp_path.glob(".*partial"))
