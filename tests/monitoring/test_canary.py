"""What a canary is judged by: the store and the servers' signs of life are real, the requests are made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_spec
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining.canary import LOOKS, Canary, CanaryEnded, CanaryTerms, watch
from tunewright.monitoring.retraining.rates import Rate
from tunewright.monitoring.retraining.status import outlook, status
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Alarm, Capture, Review
from tunewright.project import served_from, write_serving
from tunewright.serving.presence import Presence, Sign, now

pytestmark = pytest.mark.slow

BEGAN = datetime.now(UTC) - timedelta(hours=1)


def capture(number: int, version: str, **changes: object) -> Capture:
    values = {
        "id": f"{version}-{number}",
        "time": BEGAN + timedelta(seconds=number),
        "model": "tickets",
        "version": version,
        "request": f"{version} request {number}",
        "answer": "billing",
        "confidence": 0.9,
        "escalate": False,
        "seconds": 0.02,
        **changes,
    }
    return Capture(**values)


def wrong(number: int, version: str) -> Review:
    return Review(capture_id=f"{version}-{number}", reviewer="shop", time=BEGAN, source="feedback", right=False)


def corrected(number: int, version: str, time: datetime = BEGAN) -> Review:
    said = {"reviewer": "ann", "source": "review", "right": False, "answer": "refund"}
    return Review(capture_id=f"{version}-{number}", time=time, **said)


def put(store: Store, *rows: object) -> None:
    with store.session() as session:
        session.add_all(rows)


def seen(store: Store, runs: Path, captures: int = 100, minutes: float = 600, **more: bool) -> Canary:
    """What a canary has found that began an hour ago."""
    runs.mkdir(exist_ok=True)
    write_serving(runs, served_from("bundle-1", "old").trying("bundle-2", "new", 0.1))
    return watch(
        store,
        runs,
        "tickets",
        "new",
        BEGAN,
        CanaryTerms(0.1, captures, minutes, 0.05),
        margin=0.02,
        p95_ms=100,
        collect=lambda: None,
        **more,
    )


def sign(runs: Path, **changes: object) -> None:
    (runs / "servers").mkdir(parents=True, exist_ok=True)
    Sign(runs).give(
        Presence(time=now(), address="a", champion="old", told="bundle-2", challenger="new").model_copy(update=changes)
    )


def test_a_model_that_does_as_well_has_nothing_against_it(store: Store, tmp_path: Path) -> None:
    put(store, *(capture(n, "old", escalate=n % 10 == 0) for n in range(900)))
    put(store, *(capture(n, "new", escalate=n % 10 == 0) for n in range(100)))
    found = seen(store, tmp_path)
    assert (found.captures, found.against) == (100, [])
    assert found.rates[0] == Rate("were escalated", (10, 100), (90, 900))
    assert "it answered 100 requests; 10 of its 100 requests were escalated, of the champion's 90 of 900" in (
        found.sentence
    )


@pytest.mark.parametrize("what", ["escalated", "longer than 100 ms", "answered wrongly"])
def test_what_happens_more_often_with_the_challenger_is_against_it(what: str, store: Store, tmp_path: Path) -> None:
    bad = {"escalated": {"escalate": True}, "longer than 100 ms": {"seconds": 0.2}}.get(what, {})
    put(store, *(capture(n, "old") for n in range(900)))
    put(store, *(capture(n, "new", **(bad if n % 6 == 0 else {})) for n in range(100)))
    if not bad:
        put(store, *(wrong(n, "new") for n in range(0, 100, 6)), wrong(0, "old"))
    (reason,) = seen(store, tmp_path).against
    assert what in reason and reason.startswith("17 of its 100 requests")


@pytest.mark.parametrize(("old", "new", "counts"), [(None, True, True), (False, None, True), (False, True, False)])
def test_escalations_are_compared_only_where_both_have_a_threshold_and_somebody_acts_on_it(
    store: Store, tmp_path: Path, old: bool | None, new: bool | None, counts: bool
) -> None:
    put(store, *(capture(n, "old", escalate=old) for n in range(900)))
    put(store, *(capture(n, "new", escalate=new and n % 20 == 0) for n in range(100)))
    found = seen(store, tmp_path, escalations=counts)
    assert (found.captures, found.against) == (100, [])
    assert "escalated" not in found.sentence


def test_a_request_that_came_a_hundred_times_counts_once(store: Store, tmp_path: Path) -> None:
    """Who sends the same all day is answered by the same model all day, and says nothing more each time."""
    put(store, *(capture(n, "old") for n in range(900)), *(capture(n, "new") for n in range(50)))
    put(store, *(capture(n, "new", request="again", escalate=True) for n in range(100, 200)))
    found = seen(store, tmp_path, captures=51)
    assert found.rates[0].challenger == (1, 51)
    assert found.against == []


def test_feedback_that_was_undone_and_captures_from_before_do_not_count(store: Store, tmp_path: Path) -> None:
    put(store, *(capture(n, "old") for n in range(900)), *(capture(n, "new") for n in range(100)))
    undone = [wrong(n, "new") for n in range(0, 100, 3)]
    for each in undone:
        each.undone = BEGAN
    put(store, *undone, *(capture(-n, "new", escalate=True) for n in range(1, 300)))
    assert seen(store, tmp_path).against == []


def test_a_canary_that_measured_nothing_when_its_time_is_over_is_no_proof(store: Store, tmp_path: Path) -> None:
    put(store, *(capture(n, "old") for n in range(900)))
    found = seen(store, tmp_path, minutes=1)
    assert (found.captures, found.against) == (0, ["the canary measured nothing, because no request reached it"])
    assert "none was captured" in found.sentence
    sign(tmp_path, asked=1000)
    assert seen(store, tmp_path, minutes=1).against == [
        "the canary measured nothing, because none of its 1,000 requests was captured"
    ]
    put(store, capture(0, "new"))
    assert seen(store, tmp_path, minutes=1).against == []


def test_what_servers_say_is_against_it_at_once(store: Store, tmp_path: Path) -> None:
    sign(tmp_path, asked=3, failed=3)
    assert seen(store, tmp_path).against == ["it could not answer 3 of 3 requests that the champion then answered"]
    sign(tmp_path, challenger=None, trouble="This folder is no bundle.")
    assert seen(store, tmp_path).against == ["This folder is no bundle"]
    sign(tmp_path, challenger=None)
    assert seen(store, tmp_path, minutes=1).against == ["no server had loaded it when the canary ended"]
    put(store, capture(0, "new"))
    sign(tmp_path, asked=1000, failed=3)
    assert seen(store, tmp_path, minutes=1).against == [], "3 of 1,000 are no more than one in a hundred"
    sign(tmp_path, told="bundle-0", trouble="that was another one")
    assert seen(store, tmp_path, minutes=1).against == []


def test_whoever_ends_it_by_hand_ends_it(store: Store, tmp_path: Path) -> None:
    write_serving(tmp_path, served_from("bundle-1", "old"))
    with pytest.raises(CanaryEnded):
        watch(store, tmp_path, "tickets", "new", BEGAN, CanaryTerms(), margin=0.02, p95_ms=100, collect=lambda: None)


def test_an_equal_challenger_is_hardly_ever_taken_away() -> None:
    """At most one of twenty canaries, over all looks and rates."""
    rng, taken, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        draws = [(rng.random(200) < share, rng.random(1800) < share) for share in (0.1, 0.05, 0.02)]
        taken += any(
            Rate("", (int(new[:n].sum()), n), (int(old[: 9 * n].sum()), 9 * n)).too_high(0.05 / (3 * LOOKS), 0.02)
            for n in (50, 100, 150, 200)
            for new, old in draws
        )
    assert taken / runs <= 0.05


def test_it_is_due_with_reviews_enough_of_which_it_takes_half_after_an_alarm(store: Store) -> None:
    spec = make_spec(monitor={"reviews_to_retrain": 3})
    put(store, *(capture(n, "old") for n in range(4)), *(corrected(n, "old") for n in range(2)))
    found = outlook(spec, store)
    assert not found.due
    assert found.sentence.startswith("Not due: 2 of 3 new reviews (monitor.reviews_to_retrain), and no")
    put(store, corrected(2, "old"))
    assert outlook(spec, store).due
    detail = {"begun": datetime.now(UTC).isoformat(), "corrections": "a", "sentence": "Refused."}
    events.record(store, "tickets", "new", events.REFUSED, detail)
    assert not outlook(spec, store).due, "what a training has looked at is not new"
    put(store, Alarm(time=datetime.now(UTC), model="tickets", version="old", kind="language", detail={}))
    assert outlook(spec, store).sentence.startswith("Not due: 0 of 2 new reviews; after an alarm"), (
        "there is nothing to learn"
    )
    put(store, *(corrected(n, "old", datetime.now(UTC)) for n in range(2)))
    assert outlook(spec, store).sentence == (
        "Due: 2 of 2 new reviews; after an alarm half of monitor.reviews_to_retrain suffice (language)."
    )
    events.record(store, "tickets", "newer", events.TRAINED, detail)
    assert "the last retraining is unfinished (trained, version newer)" in outlook(spec, store).sentence
    assert [each.event for each in status(spec, store, Path("/nowhere")).history] == ["trained", "refused"]


def test_what_clients_say_makes_no_retraining_due_and_what_reviewers_say_does(store: Store) -> None:
    spec = make_spec(monitor={"reviews_to_retrain": 3})
    put(store, *(capture(n, "old") for n in range(3)), *(wrong(n, "old") for n in range(3)))
    assert outlook(spec, store).sentence.startswith("Not due: 0 of 3 new reviews")
    put(store, *(corrected(n, "old") for n in range(3)))
    assert outlook(spec, store).sentence.startswith("Due: 3 of 3 new reviews")
