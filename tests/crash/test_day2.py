"""What happens after the first deployment may be cut off anywhere: captures, collecting, growth, promotion and back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select

from tests.conftest import make_spec, write_project
from tests.crash.crashes import Case, crash_everywhere
from tests.monitoring.request_logs import capture, feedback, write
from tests.monitoring.test_corrections import asked, said
from tunewright.config import Spec, load_spec
from tunewright.data.corrections import corrections_in
from tunewright.monitoring.corrections import collect_corrections
from tunewright.monitoring.retraining.status import roll_back
from tunewright.monitoring.store import collect as collecting
from tunewright.monitoring.store import open_store, tables
from tunewright.monitoring.store.collect import collect
from tunewright.project import read_serving, served_from, write_serving
from tunewright.serving.captures import RequestLog, read_captures, request_logs

pytestmark = pytest.mark.slow


def stored(spec: Spec, *what: Any) -> list[tuple[Any, ...]]:
    """Columns of the store's rows; nothing where it has no such table yet."""
    if not (spec.folder / "monitor.db").exists():
        return []
    with closing(open_store(spec)) as store, store.session() as session:
        if not inspect(store.engine).has_table(what[0].class_.__tablename__):
            return []
        return sorted((tuple(row) for row in session.execute(select(*what))), key=repr)


def in_store(spec: Spec, act: Callable[..., object]) -> Callable[[], None]:
    """An act on a spec and its store, which is opened for it."""

    def done() -> None:
        with closing(open_store(spec)) as store:
            act(spec, store)

    return done


def test_an_entry_that_was_said_to_be_kept_is_kept(root: Path, home: Path) -> None:
    """The journal of a server that goes on after a disk was full, and is then killed."""
    entries = [capture("a"), capture("b"), feedback("a"), capture("c")]
    said_to_be_kept = root / "said"

    def serve() -> None:
        request_log = RequestLog(root / "captures")
        for number, entry in enumerate(entries):
            with suppress(OSError):  # the request fails, and the server goes on
                if request_log.keep(entry):
                    (said_to_be_kept / str(number)).mkdir(parents=True)
        request_log.close()

    def lost() -> dict[str, Any]:
        there = [each.model_dump() for each in read_captures(root / "captures")]
        kept = [entries[int(each.name)].model_dump() for each in said_to_be_kept.glob("*")]
        return {"lost": [each for each in kept if each not in there]}

    def again() -> None:
        write(root / "captures", capture("later"))

    found = crash_everywhere(Case(root, serve, lost, again=again), home)
    assert not found.faults
    assert found.kills > 10 and found.full > 10


def test_collecting(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(root)
    monkeypatch.setattr(collecting, "BATCH_LINES", 3)
    for server in range(2):
        ids = [f"{server}-{number}" for number in range(4)]
        write(root / "captures" / str(server), *map(capture, ids), *map(feedback, ids[:2]))
    open_store(spec).close()

    def kept() -> dict[str, Any]:
        files = {f"journal {file.name}": file.read_bytes() for file in request_logs(root / "captures")}
        captures = {f"capture {row[0]}": row for row in stored(spec, tables.Capture.id, tables.Capture.request)}
        return files | captures

    def result() -> Any:
        tally, review = tables.Tally, tables.Review
        return (
            stored(spec, tables.Capture.id, tables.Capture.request, tables.Capture.state),
            stored(spec, review.capture_id, review.answer, review.right),
            stored(spec, tally.day, tally.version, tally.captured, tally.answered),
            stored(spec, tables.Mark.file, tables.Mark.offset),
        )

    found = crash_everywhere(Case(root, in_store(spec, collect), kept, result), home)
    assert not found.faults
    assert found.kills > 5 and found.full > 5


@pytest.mark.nightly
def test_growth(root: Path, home: Path) -> None:
    spec = load_spec(write_project(root))
    with closing(open_store(spec)) as store:
        for number in range(3):
            said(store, asked(store, f"c{number}"), "refund")
        collect_corrections(spec, store)
        for number in range(3, 6):
            said(store, asked(store, f"c{number}"), "defect")
        said(store, asked(store, "twice"), "defect")
        said(store, "twice", "refund", "ben")

    def kept() -> dict[str, Any]:
        found = corrections_in(spec.corrections_folder)
        rows = {f"{version}: {row.text}": row for version, row in zip(found.numbers, found.rows, strict=True)}
        return rows | {"data": (root / "train.jsonl").read_bytes()}

    def result() -> Any:
        marked = stored(spec, tables.Review.capture_id, tables.Review.reviewer, tables.Review.dataset)
        return kept(), marked, corrections_in(spec.corrections_folder).number, hidden(root)

    found = crash_everywhere(Case(root, in_store(spec, collect_corrections), kept, result), home)
    assert not found.faults
    assert found.kills > 10 and found.full > 20


def hidden(root: Path) -> list[str]:
    """What an operation left lying about."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob(".*"))


def test_back_to_the_champion_before(root: Path, home: Path) -> None:
    spec = load_spec(write_project(root))
    runs = root / "runs"
    for number in range(3):
        (runs / f"bundle-{number}").mkdir(parents=True)
    serving = served_from("bundle-0", "v0").promoted("bundle-1", "v1").promoted("bundle-2", "v2")
    write_serving(runs, serving)
    open_store(spec).close()

    def serves() -> str:
        found = read_serving(runs)
        assert found
        return found.champion.version

    def told() -> set[Any]:
        """Each once: it may be noted again by who does it again."""
        return set(stored(spec, tables.Deployment.version, tables.Deployment.event))

    back = in_store(spec, lambda spec, store: roll_back(spec, store, runs))

    def again() -> None:
        """A person looks first."""
        if serves() == "v2":
            back()

    found = crash_everywhere(Case(root, back, lambda: {"champion": serves()}, lambda: (serves(), told()), again), home)
    assert not found.faults
    assert found.kills > 3 and found.full > 5
