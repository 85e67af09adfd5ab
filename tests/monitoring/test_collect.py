"""What servers wrote is in the store once, whatever it says and whoever collects."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.monitoring.request_logs import TIME, capture, feedback, write
from tunewright.config import Spec
from tunewright.drift.reference import Reference
from tunewright.monitoring.store import Store, tables
from tunewright.monitoring.store.collect import Collected, collect
from tunewright.monitoring.store.database import open_at
from tunewright.project import served_from, write_serving
from tunewright.serving.captures import RequestLog
from tunewright.tasks import ClassifyTask


def add_line(folder: Path, line: bytes) -> Path:
    (file,) = folder.glob("*.jsonl")
    file.write_bytes(file.read_bytes() + line)
    return file


def captures(store: Store) -> dict[str, tables.Capture]:
    with store.session() as session:
        return {each.id: each for each in session.scalars(select(tables.Capture))}


def test_what_every_server_wrote_is_collected_and_only_once(store: Store, spec: Spec, folder: Path) -> None:
    write(folder, capture("a"), feedback("a", by="shop", comment="no"))
    write(folder / "second", capture("b", by="shop", prompt_tokens=7, answer_tokens=2, seconds=0.5), feedback("b"))
    assert collect(spec, store) == Collected(captures=2, feedback=2)
    assert collect(spec, store) == Collected()
    found = captures(store)["b"]
    assert (found.request, found.answer, found.by, found.version) == ("request b", "billing", "shop", "v1")
    assert (found.prompt_tokens, found.answer_tokens, found.seconds, found.state) == (7, 2, 0.5, "open")
    assert found.time == datetime.fromisoformat(TIME)
    with store.session() as session:
        said = session.scalars(select(tables.Review).order_by(tables.Review.capture_id)).all()
    assert [(each.capture_id, each.reviewer, each.source, each.right, each.answer) for each in said] == [
        ("a", "shop", "feedback", False, "refund"),
        ("b", "anonymous", "feedback", False, "refund"),
    ]


def test_where_nothing_was_kept_nothing_is_collected(store: Store, spec: Spec) -> None:
    assert collect(spec, store) == Collected()


def test_a_line_is_collected_when_it_is_whole(store: Store, spec: Spec, folder: Path) -> None:
    write(folder, capture("a"))
    whole = capture("b").model_dump_json().encode() + b"\n"
    add_line(folder, whole[:40])
    assert collect(spec, store).captures == 1
    add_line(folder, whole[40:])
    assert collect(spec, store) == Collected(captures=1)
    assert captures(store).keys() == {"a", "b"}


BROKEN = {
    "not JSON": b'{"kind": "capture"',
    "empty": b"",
    "no UTF-8": b"\xff\xfe{}",
    "another kind": b'{"kind": "greeting"}',
    "a lone surrogate": capture("x").model_dump_json().replace("request x", r"\ud800").encode(),
    "no time": capture("x", time="yesterday").model_dump_json().encode(),
    "a time before all times": capture("x", time="0001-01-01T00:00:00+02:00").model_dump_json().encode(),
    "an endless id": capture("x").model_dump_json().replace('"x"', f'"{"x" * 65}"').encode(),
    "more tokens than there are": capture("x").model_dump_json().replace('tokens":0', f'tokens":{2**40}').encode(),
}


def test_broken_lines_are_told_and_passed_over(
    store: Store, spec: Spec, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, capture("start"))
    for kind, line in BROKEN.items():
        at = add_line(folder, b"").stat().st_size
        file = add_line(folder, line + b"\n" + capture(f"after {kind}").model_dump_json().encode() + b"\n")
        found = collect(spec, store)
        assert (kind, found.unreadable) == (kind, 1)
        assert f"{file}: 1 lines can't be read and were skipped, the first at byte {at:,}." in capsys.readouterr().err
    assert captures(store).keys() == {"start", *(f"after {kind}" for kind in BROKEN)}


def test_a_newer_servers_line_is_read_for_what_is_known_of_it(store: Store, spec: Spec, folder: Path) -> None:
    write(folder, capture("a"))
    add_line(folder, json.dumps(capture("b").model_dump() | {"mood": "good"}).encode() + b"\n")
    assert collect(spec, store) == Collected(captures=2)


def test_of_an_id_that_comes_twice_the_first_is_kept(store: Store, spec: Spec, folder: Path) -> None:
    write(folder, capture("a", request="first"), capture("a", request="second"))
    assert collect(spec, store) == Collected(captures=1, repeated=1)
    write(folder / "copy", capture("a", request="third"), capture("b"))
    assert collect(spec, store) == Collected(captures=1, repeated=1)
    assert captures(store)["a"].request == "first"
    with store.session() as session:
        assert session.scalars(select(tables.Tally.captured)).one() == 2


def test_what_a_database_cannot_hold_is_replaced(store: Store, spec: Spec, folder: Path) -> None:
    """PostgreSQL takes no NUL and no name that is too long; SQLite must not hold something else than it."""
    write(folder, capture("a", request="x\0y", by="n" * 200), feedback("a", comment="\0", answer="\0"))
    assert collect(spec, store) == Collected(captures=1, feedback=1)
    found = captures(store)["a"]
    assert (found.request, found.by) == ("x\N{REPLACEMENT CHARACTER}y", "n" * 120)


def test_a_text_comes_back_as_it_was(store: Store, spec: Spec, folder: Path) -> None:
    texts = ["ä" * 500_000, "<script>alert(1)</script>' OR 1=1 --", "\U0001f600\u202e\r\n"]
    write(folder, *(capture(str(number), request=text, answer=text) for number, text in enumerate(texts)))
    assert collect(spec, store).captures == 3
    found = captures(store)
    assert [(found[str(number)].request, found[str(number)].answer) for number in range(3)] == [
        (text, text) for text in texts
    ]


def test_times_are_what_the_servers_clock_said_and_order_nothing(store: Store, spec: Spec, folder: Path) -> None:
    said = ["2026-11-27T00:00:00+00:00", "2099-01-01T00:00:00+00:00", "1999-12-31T23:30:00-01:00", "2026-11-26T10:00"]
    request_log = RequestLog(folder)
    for number, each in enumerate(said):
        assert request_log.keep(capture(str(number), time=each))
        assert collect(spec, store).captures == 1
    assert [captures(store)[str(number)].time for number in range(4)] == [
        datetime(2026, 11, 27, tzinfo=UTC),
        datetime(2099, 1, 1, tzinfo=UTC),
        datetime(2000, 1, 1, 0, 30, tzinfo=UTC),
        datetime(2026, 11, 26, 10, tzinfo=UTC),
    ]
    with store.session() as session:
        days = session.scalars(select(tables.Tally.day).order_by(tables.Tally.day)).all()
    assert days == [date(2000, 1, 1), date(2026, 11, 26), date(2026, 11, 27), date(2099, 1, 1)]


def test_tallies_count_what_the_captures_stand_for(store: Store, spec: Spec, folder: Path) -> None:
    one = {"prompt_tokens": 10, "answer_tokens": 1, "seconds": 0.5}
    write(folder, capture("a", share=0.25, escalate=True, **one), capture("b", **one), capture("c", version="v2"))
    collect(spec, store)
    write(folder, capture("d", share=0.5, escalate=None, **one))
    collect(spec, store)
    with store.session() as session:
        tally = session.get(tables.Tally, (datetime.fromisoformat(TIME).date(), "tickets", "v1"))
    assert tally is not None
    assert (tally.captured, tally.answered, tally.escalated) == (3, 7, 4)
    assert (tally.prompt_tokens, tally.answer_tokens, tally.seconds) == (70, 7, 3.5)
    assert captures(store)["a"].weight == 4


def test_feedback_moves_what_it_speaks_of_in_the_queue(store: Store, spec: Spec, folder: Path) -> None:
    write(folder, capture("a"), capture("b"), feedback("b"), capture("c"))
    collect(spec, store)
    first = captures(store)
    assert [first[name].disagreement for name in "abc"] == [0, 1, 0]
    assert first["a"].priority < first["b"].priority
    assert {each.novelty for each in first.values()} == {1.0}, "there is no reference yet"
    write(folder / "later", feedback("c"), feedback("unknown"))
    assert collect(spec, store) == Collected(feedback=2)
    assert captures(store)["c"].priority == first["b"].priority


def test_captures_are_compared_with_what_the_serving_model_was_judged_on(
    store: Store, spec: Spec, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"my card {number} was declined at the shop" for number in range(60)]
    bundle = tmp_path / "runs" / "latest" / "bundle"
    bundle.mkdir(parents=True)
    write_serving(tmp_path / "runs", served_from("latest/bundle", "v1"))
    Reference.of(texts[:30], texts[30:], ["billing"] * 30, [0.9] * 30, ClassifyTask("Which?", {"billing": ""})).save(
        bundle
    )
    write(folder, capture("known", request=texts[0]), capture("novel", request="qué tiempo hace hoy en Zürich?"))
    collect(spec, store)
    found = captures(store)
    assert found["known"].novelty < found["novel"].novelty
    (bundle / "reference.npz").write_bytes(b"broken")
    write(folder / "later", capture("c"))
    assert collect(spec, store) == Collected(captures=1)
    assert "can't be compared with the model's reference" in capsys.readouterr().err


@pytest.mark.slow
def test_many_who_collect_at_once_double_nothing(address: str, store: Store, spec: Spec, folder: Path) -> None:
    for server in range(3):
        # The same ids in other orders, so that the collectors meet.
        shared = [capture(f"{number:04d}") for number in range(900)]
        own = [capture(f"{server}-{number}") for number in range(900)]
        write(folder / str(server), *(shared if server % 2 else reversed(shared)), *own, *map(feedback, "abc"))

    def one(_: int) -> Collected:
        own = open_at(address)
        try:
            return collect(spec, own)
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        found = sum(pool.map(one, range(4)), Collected())
    assert found == Collected(captures=3600, feedback=9, repeated=1800)
    with store.session() as session:
        assert session.scalar(select(func.count()).select_from(tables.Capture)) == 3600
        assert session.scalar(select(func.count()).select_from(tables.Review)) == 9
        assert session.scalar(select(func.sum(tables.Tally.captured))) == 3600
