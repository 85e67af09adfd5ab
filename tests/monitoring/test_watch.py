from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from tests.conftest import make_spec, spec_data, tunewright
from tests.drift.made import Asked, asked, reference
from tests.monitoring.bundles import bundle_in, serving_bundle
from tunewright.config import Spec
from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.drift.reference import load_reference
from tunewright.monitoring import watch as watching
from tunewright.monitoring.alarms import sentence
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.tables import Alarm, Capture, Review
from tunewright.monitoring.watch import ACCURACY, look, rebase, watch
from tunewright.monitoring.webhook import NotSent, send

pytestmark = pytest.mark.slow

START = datetime(2026, 11, 1, tzinfo=UTC)
NOON = timedelta(hours=12)
SECRET = "token-in-the-address"


def put(store: Store, day: int, what: Asked, version: str = "v1") -> None:
    """A day's captures, of which no id was given before."""
    random = np.random.default_rng([day, len(what.texts)])
    with store.session() as session:
        session.add_all(
            Capture(
                id=random.bytes(16).hex(),
                time=START + timedelta(days=day, minutes=number),
                model="tickets",
                version=version,
                request=text,
                answer=answer,
                confidence=sure,
            )
            for number, (text, answer, sure) in enumerate(zip(what.texts, what.answers, what.confidences, strict=True))
        )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return serving_bundle(tmp_path / "runs")


def on(day: int) -> datetime:
    """Noon of the day after one."""
    return START + timedelta(days=day + 1) + NOON


def season(count: int, seed: int) -> Asked:
    return asked(count, seed, mix=(0.1, 0.7, 0.2))


@pytest.mark.usefixtures("bundle")
def test_traffic_like_what_the_model_was_judged_on_raises_nothing(store: Store, spec: Spec) -> None:
    for day in range(5):
        put(store, day, asked(100, day))
        assert watch(spec, store, now=on(day)) == []
    found = look(spec, store, now=on(4))
    assert [(window.days, window.rows, bool(window.findings)) for window in found.windows] == [
        (1, 100, False),
        (7, 500, True),
        (28, 500, True),
    ]
    assert found.windows[0].waits == "not enough yet: 100 of 200"


@pytest.mark.usefixtures("bundle")
def test_an_alarm_is_raised_once_until_it_ends_and_anew_when_it_comes_again(store: Store, spec: Spec) -> None:
    raised = {}
    for day, what in [(0, asked), (1, season), (2, season), (3, asked), (35, asked), (36, season)]:
        put(store, day, what(300, day))
        raised[day] = "answer" in {alarm.kind for alarm in watch(spec, store, now=on(day))}
    assert raised == {0: False, 1: True, 2: False, 3: False, 35: False, 36: True}
    with store.session() as session:
        first, second = session.scalars(select(Alarm).where(Alarm.kind == "answer").order_by(Alarm.number))
    assert (first.time, first.ended) == (on(1), on(35))
    assert (second.time, second.ended) == (on(36), None)


@pytest.mark.usefixtures("bundle")
def test_a_check_asked_for_twice_a_day_is_one_check(store: Store, spec: Spec) -> None:
    put(store, 0, season(300, 1))
    first = watch(spec, store, now=on(0))
    put(store, 1, season(300, 2))  # of the day that is not over
    assert first
    assert watch(spec, store, now=on(0) + timedelta(hours=1)) == []


@pytest.mark.usefixtures("bundle")
def test_an_alarm_names_what_drifted_most(store: Store, spec: Spec) -> None:
    new = [f"can I take {number} flying lessons near the coast" for number in range(60)]
    put(store, 0, asked(400, 3) + Asked(new, ["billing"] * 60, [0.5] * 60))
    found = look(spec, store, now=on(0))
    novelty = next(alarm for alarm in found.alarms if alarm.kind == "novelty")
    assert len(novelty.detail["examples"]) == 5
    assert {found.examples[identity] for identity in novelty.detail["examples"]} <= set(new)
    assert "flying" not in json.dumps(novelty.detail)
    assert sentence(novelty).startswith("novelty, the last day (460 requests): median ")


def test_what_another_version_answered_is_not_compared_and_its_alarms_end(
    store: Store, spec: Spec, bundle: Path
) -> None:
    put(store, 0, season(300, 1))
    assert watch(spec, store, now=on(0))
    bundle_in(bundle, "v2")
    put(store, 1, asked(300, 5), version="v2")
    found = look(spec, store, now=on(1))
    assert (found.version, found.windows[2].rows, found.alarms, found.open) == ("v2", 300, [], [])


def test_of_a_promoted_bundle_the_captures_are_compared(store: Store, spec: Spec, bundle: Path) -> None:
    bundle_in(bundle.parents[1] / "bundle-42", "v9")
    standing = {"bundle": "bundle-42", "version": "v9", "since": START.isoformat()}
    write_json(bundle.parents[1] / "serving.json", {"champion": standing})
    put(store, 0, asked(10, 1), version="v9")
    assert look(spec, store, now=on(0)).version == "v9"


@pytest.mark.usefixtures("bundle")
def test_an_empty_store_and_a_clock_set_back_are_no_drift(store: Store, spec: Spec) -> None:
    assert watch(spec, store, now=on(0)) == []
    put(store, 3, season(300, 1))
    assert watch(spec, store, now=on(3))
    assert watch(spec, store, now=on(0)) == []


@pytest.mark.usefixtures("bundle")
def test_of_a_busy_day_a_random_part_is_read(store: Store, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.monitoring.captured.MOST_A_DAY", 250)
    put(store, 0, asked(200, 1) + season(200, 2))
    found = look(spec, store, now=on(0)).windows[0]
    assert found.rows == 250
    assert "answer" in {finding.trait for finding in found.findings if finding.drifted}


def test_live_traffic_that_is_taken_for_usual_ends_the_alarm(store: Store, spec: Spec, bundle: Path) -> None:
    before = load_reference(bundle)
    for day in range(2):
        put(store, day, season(300, day))
    assert watch(spec, store, now=on(1))
    assert rebase(spec, store, now=on(1)).rows == 300
    found = look(spec, store, now=on(1))
    assert (found.alarms, found.open) == ([], [])
    assert found.reference == "300 answers of live traffic"
    after = load_reference(bundle)
    assert before is not None and after is not None and before.kinds == after.kinds


@pytest.mark.usefixtures("bundle")
def test_too_little_traffic_is_not_taken_for_usual(store: Store, spec: Spec) -> None:
    put(store, 0, asked(150, 1))
    with pytest.raises(UserError, match="150 captures"):
        rebase(spec, store, now=on(0))


def test_a_bundle_without_a_reference_says_what_to_do(store: Store, spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle"):
        watch(spec, store)
    serving_bundle(tmp_path / "runs", made=None)
    with pytest.raises(UserError, match="--rebase"):
        watch(spec, store)


def test_a_reference_of_a_few_answers_is_none(store: Store, spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 40 answers"):
        watch(spec, store, bundle_in(tmp_path / "other", made=reference(rows=40)))


def reviewed(store: Store, days: Sequence[int], wrong_from: int, source: str = "review") -> None:
    """Every second capture reviewed, two of three wrong from a day on."""
    with store.session() as session:
        captures = session.scalars(select(Capture).order_by(Capture.time)).all()
        for number, capture in enumerate(captures[::2]):
            day = (capture.time - START).days
            right = day < wrong_from or number % 3 == 0
            if day in days:
                session.add(
                    Review(
                        capture_id=capture.id,
                        reviewer="ann",
                        time=capture.time,
                        source=source,
                        answer=capture.answer,
                        right=right,
                    )
                )


@pytest.mark.usefixtures("bundle")
def test_a_fall_of_accuracy_raises_an_alarm_with_its_day(store: Store, spec: Spec) -> None:
    for day in range(6):
        put(store, day, asked(100, day))
    reviewed(store, range(6), wrong_from=3)
    found = look(spec, store, now=on(5))
    assert [alarm.kind for alarm in found.alarms] == [ACCURACY]
    assert "04 November 2026" in found.alarms[0].detail["said"]
    assert found.reviews == 300
    assert found.accuracy is not None
    share = found.accuracy.share
    assert 0.5 < share.low < share.value < share.high < 0.8


@pytest.mark.usefixtures("bundle")
def test_feedback_of_askers_is_no_measure_of_accuracy(store: Store, spec: Spec) -> None:
    for day in range(6):
        put(store, day, asked(100, day))
    reviewed(store, range(6), wrong_from=3, source="feedback")
    found = look(spec, store, now=on(5))
    assert (found.reviews, found.accuracy, found.alarms) == (0, None, [])


@pytest.mark.usefixtures("bundle")
def test_the_last_word_on_an_answer_counts_and_one_taken_back_does_not(store: Store, spec: Spec) -> None:
    put(store, 0, asked(240, 1))
    reviewed(store, [0], wrong_from=0)
    reviewed(store, [0], wrong_from=9)
    with store.session() as session:
        last = session.scalars(select(Review).order_by(Review.number.desc())).first()
        assert last is not None
        last.undone = START
        gone = last.capture_id
    accuracy = look(spec, store, now=on(0)).accuracy
    assert accuracy is not None
    with store.session() as session:
        before = session.scalars(select(Review.right).where(Review.capture_id == gone)).first()
    assert accuracy.share.value == pytest.approx(1.0 if before else 1 - 1 / 120, abs=0.01)


class Hook:
    """A real server that answers as it is told, and keeps what it is sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                status, headers = hook.answers.pop(0) if hook.answers else (200, {})
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    made = Hook()
    monkeypatch.setenv("DRIFT_HOOK", made.address)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def hooked(tmp_path: Path) -> Spec:
    return make_spec(tmp_path, monitor={"webhook": "DRIFT_HOOK"})


@pytest.mark.usefixtures("bundle")
def test_a_webhook_is_told_once_and_never_what_a_customer_wrote(store: Store, hooked: Spec, hook: Hook) -> None:
    new = [f"can I take {number} flying lessons near the coast" for number in range(60)]
    put(store, 0, asked(400, 3) + Asked(new, ["billing"] * 60, [0.5] * 60))
    found = look(hooked, store, now=on(0))
    assert look(hooked, store, now=on(0)).untold == ""
    (sent,) = hook.got
    assert sent["text"].startswith("tickets drifts:\n• ")
    told = {alarm["kind"]: alarm for alarm in sent["details"]["alarms"]}
    assert told.keys() == {alarm.kind for alarm in found.alarms}
    assert set(told["novelty"]["examples"]) <= found.examples.keys()
    assert "flying" not in json.dumps(sent)


@pytest.mark.parametrize("answer", [(429, {"retry-after": "0"}), (500, {}), (503, {})])
def test_a_webhook_that_is_busy_or_broken_is_asked_again(answer: tuple[int, dict[str, str]], hook: Hook) -> None:
    hook.answers = [answer, answer]
    send(hook.address, "text", {}, first_wait=0.01)
    assert len(hook.got) == 3


@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_webhook_that_refuses_is_not_asked_again(status: int, hook: Hook) -> None:
    hook.answers = [(status, {"location": "http://127.0.0.1:9/"})] * 9
    with pytest.raises(NotSent, match=str(status)):
        send(hook.address, "text", {}, first_wait=0.01)
    assert len(hook.got) == 1


def test_its_address_is_in_no_error_and_no_log(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    send(hook.address, "text", {})
    addresses = [f"http://127.0.0.1:9/{SECRET}", f"http://[{SECRET}", f"http://host:{SECRET}/"]
    for address in addresses:
        with pytest.raises(NotSent) as refused:
            send(address, "text", {}, first_wait=0.01)
        assert SECRET not in str(refused.value)
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("bundle")
def test_what_a_webhook_did_not_take_is_kept_and_told_the_next_time(store: Store, hooked: Spec, hook: Hook) -> None:
    put(store, 0, season(300, 1))
    hook.answers = [(403, {})]
    found = look(hooked, store, now=on(0))
    assert found.alarms
    assert found.untold == "HTTP 403"
    again = look(hooked, store, now=on(0))
    assert (again.alarms, again.untold, len(hook.got)) == ([], "", 2)
    assert hook.got[0] == hook.got[1]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("value", [None, "hooks.example.com/x"])
def test_a_webhook_that_is_no_address_is_told_before_anything_is_done(
    value: str | None, store: Store, hooked: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRIFT_HOOK", raising=False)
    if value:
        monkeypatch.setenv("DRIFT_HOOK", value)
    with pytest.raises(UserError, match="DRIFT_HOOK") as refused:
        watch(hooked, store, now=on(0))
    assert "example.com/x" not in str(refused.value)


@pytest.mark.usefixtures("bundle")
def test_the_command_shows_a_table_and_ends_with_1_on_a_new_alarm(tmp_path: Path) -> None:
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec_data()), "utf-8")
    (tmp_path / "train.jsonl").write_text("", "utf-8")
    store = open_store(make_spec(tmp_path))
    hostile = [f"\x1b[31mfly {number} away [bold]over the hills" for number in range(80)]
    days = (datetime.now(UTC) - START).days - 1
    put(store, days, asked(300, 1) + Asked(hostile, ["billing"] * 80, [0.2] * 80))
    store.close()
    first = tunewright("monitor", "drift", str(tmp_path))
    assert first.returncode == 1, first.stderr
    assert "Gate failed: new drift: " in first.stderr
    assert "\x1b[31m" not in first.stdout
    assert "[bold]over the hills" in first.stdout
    assert "NEW: novelty" in first.stdout
    second = tunewright("monitor", "drift", str(tmp_path), "--json")
    assert second.returncode == 0, second.stderr
    told = json.loads(second.stdout)
    assert told["alarms"] == []
    assert "novelty" in {alarm["kind"] for alarm in told["open"]}
    assert [window["days"] for window in told["windows"]] == list(watching.DAYS)
