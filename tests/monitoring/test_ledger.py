from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.crash import linear
from tests.monitoring.bundles import bundle_in
from tunewright.core.artifacts import atomic_folder, read_manifest, write_json
from tunewright.economics import price_book
from tunewright.inference.bundle import read_info
from tunewright.monitoring.ledger import Ledger, Quality, ledger
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, Review, Tally

BOOK = price_book()
MACHINE = BOOK.machine("Standard_D2s_v5").usd_per_hour
KEPT = (2 * 4 * 520 + 750) / 2**30 * 90 / (365 / 12) * BOOK.disk_usd_per_gib
"""A capture of 520 tokens, in journal and store, for 90 days."""
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def tally(day: date, answered: float, **changes: object) -> Tally:
    figures: dict[str, Any] = {"version": "a", "captured": round(answered), "escalated": 0.0}
    figures |= {"prompt_tokens": 500 * answered, "answer_tokens": 20 * answered, "seconds": 0.05 * answered}
    return Tally(day=day, model="tickets", answered=answered, **figures | changes)


def of(store: Store, *tallies: Tally, now: datetime = NOON, folder: Path = Path("/nowhere"), **spec: object) -> Ledger:
    with store.session() as session:
        session.add_all(tallies)
    return ledger(make_spec(folder, **spec), store, BOOK, now)


def judged(
    project: Path,
    name: str = "1",
    shown: str = "switch",
    usage_from: str = "letters",
    rest: str = "gpt-4o",
    counted: dict[str, float] | None = None,
    retraining: float | None = 0.0,
    later: str = "",
    **usage: float,
) -> None:
    """A verdict on version a, and the bundle made by it.

    Args:
        rest: the API to which a cascade leaves its rest, with the tokens that it counted.
        retraining: USD a month.
        later: the API that would be paid after the end of the one paid for today.
    """
    runs = project / "runs"
    about: dict[str, Any] = {"spec_sha256": "", "seed": 0, "code_version": ""}
    usage = {"prompt_tokens": 800.0, "answer_tokens": 10.0} | usage
    money = {"items": [{"name": "reviews", "usd_per_month": None}, {"name": "retraining", "usd_per_month": retraining}]}
    apis = {each: {"model": each} for each in ("gpt-4o", rest, *([later] if later else []))}
    comparison = {"usage": usage, "usage_from": usage_from, "apis": apis, "money": money}
    bills = [{"name": "gpt-4o", "until": 2.0, "note": ""}]
    bills += [{"name": later, "until": None, "note": ", which nobody has measured"}] if later else []
    decision = {"shown": shown, "reference": rest, "saving": {"bills": bills}}
    verdict = {"comparison": comparison, "verdict": decision, "name": name}
    if counted:
        verdict["baseline"] = {"apis": {rest: counted}}
    target = runs / f"verdict-{name}"
    with atomic_folder(target, kind="verdict", fingerprint=name, inputs={}, **about) as output:
        write_json(output.path / "verdict.json", verdict)
    made = read_manifest(target)
    assert made
    inputs = {"verdict": made.content}
    with atomic_folder(runs / f"bundle-{name}", kind="bundle", fingerprint=name, inputs=inputs, **about) as output:
        bundle_in(output.path, "a", None)


def test_a_day_costs_its_machine_and_saves_the_apis_price_for_the_tokens_that_were_answered(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 30_000), now=datetime(2026, 11, 3, tzinfo=UTC))
    assert found.total.own_usd == pytest.approx(24 * MACHINE + 30_000 * KEPT)
    assert found.total.api_usd == pytest.approx(30_000 * (500 * 2.5 + 20 * 10) / 1e6)
    assert found.total.saved_usd == pytest.approx(found.total.api_usd - found.total.own_usd)
    assert found.sentence.startswith(
        f"To date the own model saved ${found.total.saved_usd:,.2f}: 30,000 requests in 1.0 days"
    )


def test_days_without_requests_cost_their_machine_all_the_same(store: Store) -> None:
    found = of(store, tally(date(2026, 10, 30), 10), tally(date(2026, 11, 2), 10))
    assert [entry.name for entry in found.months] == ["2026-10", "2026-11"]
    assert found.months[0].own_usd == pytest.approx(48 * MACHINE + 10 * KEPT)
    assert found.months[1].own_usd == pytest.approx(60 * MACHINE + 10 * KEPT)
    assert found.total.days == pytest.approx(4.5)


def test_a_machine_that_scales_to_zero_costs_nothing_on_a_day_without_requests(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 1), 1), traffic={"machine": "container-apps-2-4"})
    hour = BOOK.machine("container-apps-2-4").usd_per_hour
    assert 0 < found.total.own_usd < 0.1 * hour  # up for some five minutes after the one request


def test_as_many_machines_are_counted_as_the_measured_time_needs(store: Store) -> None:
    # 2 s of work a request, four times as many at the peak: 10 requests a second need dozens of machines.
    found = of(store, tally(date(2026, 11, 2), 864_000, seconds=2.0 * 864_000))
    assert found.total.own_usd > 50 * 36 * MACHINE


def test_what_a_cascade_passes_on_is_paid_to_the_api_as_well(store: Store) -> None:
    plain = of(store, tally(date(2026, 11, 2), 1000)).total
    with store.session() as session:
        session.get_one(Tally, (date(2026, 11, 2), "tickets", "a")).escalated = 250.0
    cascade = of(store).total
    assert cascade.own_usd - plain.own_usd == pytest.approx(plain.api_usd / 4)


def test_the_apis_own_longer_prompt_is_what_it_would_have_been_paid_for(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 1000), api={"prompt_tokens": 2000, "completion_tokens": 100})
    assert found.total.api_usd == pytest.approx(1000 * (2000 * 2.5 + 100 * 10) / 1e6)


def test_escalated_requests_cost_nothing_where_the_verdict_is_to_switch(store: Store, tmp_path: Path) -> None:
    judged(tmp_path)
    until = datetime(2026, 11, 3, tzinfo=UTC)
    found = of(store, tally(date(2026, 11, 2), 1000, escalated=250.0), now=until, folder=tmp_path).total
    assert (found.requests, found.escalated) == (1000, 0)
    assert found.own_usd == pytest.approx(24 * MACHINE + 1000 * KEPT)


def test_what_is_passed_on_is_paid_by_the_tokens_of_the_cascades_verdict(store: Store, tmp_path: Path) -> None:
    judged(tmp_path, shown="cascade")
    until = datetime(2026, 11, 3, tzinfo=UTC)
    found = of(store, tally(date(2026, 11, 2), 1000, escalated=250.0), now=until, folder=tmp_path).total
    assert found.escalated == 250
    assert found.api_usd == pytest.approx(1000 * (800 * 2.5 + 10 * 10) / 1e6)
    assert found.own_usd == pytest.approx(24 * MACHINE + 1000 * KEPT + found.api_usd / 4)


COUNTED = {
    **{"prompt_tokens": 600.0, "answer_tokens": 30.0, "cached_tokens": 100.0},
    **{"cache_write_tokens": 0.0, "reasoning_tokens": 0.0},
}


@pytest.mark.parametrize("version", ["a", "gone"])
@pytest.mark.parametrize(
    ("counted", "settings", "usd"),
    [
        (COUNTED, {}, 500 * 0.1 + 100 * 0.01 + 30 * 0.5),
        (None, {}, 800 * 0.1 + 10 * 0.5),
        (None, {"prompt_tokens": 2000, "completion_tokens": 40}, 2000 * 0.1 + 40 * 0.5),
    ],
)
def test_what_is_passed_on_is_paid_at_the_api_to_which_the_cascade_leaves_its_rest(
    store: Store, tmp_path: Path, version: str, counted: dict[str, float] | None, settings: dict[str, Any], usd: float
) -> None:
    judged(tmp_path, shown="cascade", rest="gpt-6-luna", counted=counted)
    until = datetime(2026, 11, 3, tzinfo=UTC)
    passed_on = tally(date(2026, 11, 2), 1000, version=version, escalated=250.0)
    apis = [{}, {"model": "gpt-6-luna", **settings}]
    found = of(store, passed_on, now=until, folder=tmp_path, apis=apis).total
    assert found.api_usd == pytest.approx(1000 * (800 * 2.5 + 10 * 10) / 1e6)
    assert found.own_usd == pytest.approx(24 * MACHINE + 1000 * KEPT + 250 * usd / 1e6)


@pytest.mark.parametrize(
    ("usage_from", "settings", "usd"),
    [
        ("letters", {}, 800 * 2.5 + 10 * 10),
        ("letters", {"prompt_tokens": 2000}, 2000 * 2.5 + 10 * 10),
        ("log", {}, 500 * 2.5 + 300 * 1.25 + 10 * 10),
        ("log", {"prompt_tokens": 2000}, 2000 * 2.5 + 10 * 10),
        ("model", {}, 500 * 2.5 + 20 * 10),
        ("api", {}, 500 * 2.5 + 300 * 1.25 + 10 * 10),
        ("api", {"prompt_tokens": 2000}, 500 * 2.5 + 300 * 1.25 + 10 * 10),
    ],
)
def test_a_request_to_the_api_has_the_tokens_that_the_verdict_counts(
    store: Store, tmp_path: Path, usage_from: str, settings: dict[str, Any], usd: float
) -> None:
    judged(tmp_path, usage_from=usage_from, cached_tokens=300.0 if usage_from in ("api", "log") else 0.0)
    found = of(store, tally(date(2026, 11, 2), 1000), folder=tmp_path, api=settings)
    assert found.total.api_usd == pytest.approx(1000 * usd / 1e6)


def test_a_version_whose_verdict_is_gone_is_priced_by_the_last_verdict_and_its_escalations_are_paid(
    store: Store, tmp_path: Path
) -> None:
    judged(tmp_path)
    found = of(store, tally(date(2026, 11, 2), 1000, version="gone", escalated=250.0), folder=tmp_path).total
    assert found.escalated == 250
    assert found.api_usd == pytest.approx(1000 * (800 * 2.5 + 10 * 10) / 1e6)


def test_of_two_verdicts_on_a_version_that_of_the_latest_bundle_counts(store: Store, tmp_path: Path) -> None:
    judged(tmp_path, "1", prompt_tokens=1000.0)
    judged(tmp_path, "2", prompt_tokens=2000.0)
    for name, prompt in (("1", 1000), ("2", 2000)):
        latest = tmp_path / "runs" / "latest"
        latest.mkdir(exist_ok=True)
        (latest / "bundle").unlink(missing_ok=True)
        (latest / "bundle").symlink_to(f"../bundle-{name}")
        with store.session() as session:
            session.merge(tally(date(2026, 11, 2), 1000))
        assert of(store, folder=tmp_path).total.api_usd == pytest.approx(1000 * (prompt * 2.5 + 10 * 10) / 1e6)


@pytest.mark.slow
def test_a_linear_models_requests_cost_with_the_api_what_its_verdict_says(store: Store, tmp_path: Path) -> None:
    spec = linear.project(tmp_path / "project")
    linear.bring_up_to_date(spec)
    latest = spec.folder / "runs" / "latest"
    version = read_info(latest / "bundle").version
    with store.session() as session:  # a linear model's tokens are the pieces of words that it knows
        session.add(tally(date(2026, 11, 2), 1000, version=version, prompt_tokens=9000.0, answer_tokens=0.0))
    found = ledger(spec, store, BOOK, NOON)
    verdict = json.loads((latest / "verdict" / "verdict.json").read_text("utf-8"))
    assert found.total.api_usd == pytest.approx(verdict["comparison"]["apis"][spec.api.label]["cost"]["usd_per_1000"])


LAST, GONE = date(2027, 1, 13), date(2027, 1, 14)
"""The last day of gpt-4o at OpenAI, and the first without it."""
LATE = datetime(2027, 1, 16, tzinfo=UTC)
GPT_4O = (800 * 2.5 + 10 * 10) / 1e6
LUNA = (800 * 0.1 + 10 * 0.5) / 1e6


def test_days_after_the_apis_end_are_left_out_where_no_verdict_names_another(store: Store, tmp_path: Path) -> None:
    judged(tmp_path)
    found = of(store, tally(LAST, 1000), tally(GONE, 500), now=LATE, folder=tmp_path)
    assert (found.total.days, found.total.requests) == (1, 1000)
    assert found.total.api_usd == pytest.approx(1000 * GPT_4O)
    assert found.total.own_usd == pytest.approx(24 * MACHINE + 1000 * KEPT)
    assert found.left_out
    assert (found.left_out.days, found.left_out.requests) == (2, 500)
    assert found.left_out.own_usd == pytest.approx(48 * MACHINE + 500 * KEPT)
    assert (
        "gpt-4o left OpenAI's API on 2027-01-14: 2.0 days since then, with 500 requests that cost "
        f"${found.left_out.own_usd:,.2f}, are left out, because no verdict names an API that could be paid instead."
    ) in found.sentence


def test_a_ledger_that_begins_after_the_apis_end_has_no_saving(store: Store, tmp_path: Path) -> None:
    found = of(store, tally(GONE, 500, escalated=100.0), now=LATE, folder=tmp_path)
    assert [(each.name, each.days, each.own_usd, each.saved_usd) for each in found.months] == [("2027-01", 0, 0, 0)]
    assert found.left_out
    assert found.left_out.own_usd == pytest.approx(48 * MACHINE + 500 * KEPT), "nobody was paid for what was escalated"
    assert found.sentence.startswith("gpt-4o left OpenAI's API on 2027-01-14: 2.0 days since then, with 500 requests")


def test_after_the_apis_end_the_verdicts_later_api_counts(store: Store, tmp_path: Path) -> None:
    judged(tmp_path, shown="cascade", later="gpt-6-luna")
    found = of(store, tally(LAST, 1000), tally(GONE, 500, escalated=100.0), now=LATE, folder=tmp_path)
    assert (found.left_out, found.total.days) == (None, 3)
    assert found.total.api_usd == pytest.approx(1000 * GPT_4O + 500 * LUNA)
    assert found.total.own_usd == pytest.approx(72 * MACHINE + 1500 * KEPT + 100 * LUNA)
    assert (
        "gpt-4o left OpenAI's API on 2027-01-14: from then on requests count at the price of gpt-6-luna, which nobody "
        "has measured."
    ) in found.sentence


def test_the_api_that_a_cascade_leaves_its_rest_to_counts_after_the_end_of_the_other(
    store: Store, tmp_path: Path
) -> None:
    judged(tmp_path, shown="cascade", rest="gpt-6-luna")
    found = of(store, tally(GONE, 500), now=LATE, folder=tmp_path)
    assert found.left_out is None
    assert found.total.api_usd == pytest.approx(500 * LUNA)


def test_the_end_is_that_at_the_host_where_the_api_is_asked(store: Store, tmp_path: Path) -> None:
    judged(tmp_path)
    at_azure = {"url": "https://x.openai.azure.com/openai/v1"}
    found = of(store, tally(GONE, 500), now=LATE, folder=tmp_path, api=at_azure)
    assert found.left_out is None
    assert found.total.api_usd == pytest.approx(500 * GPT_4O)
    assert "left" not in found.sentence


def test_a_model_that_costs_more_than_the_api_is_called_that(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 3))
    assert found.total.saved_usd < 0
    assert "cost $3.45 more than gpt-4o would have" in found.sentence


def test_reviews_and_retraining_that_have_a_price_are_paid_day_by_day(store: Store) -> None:
    day, until = date(2026, 11, 2), datetime(2026, 11, 3, tzinfo=UTC)
    plain = of(store, tally(day, 1000, captured=0), now=until).total
    assert plain.own_usd == pytest.approx(24 * MACHINE)
    costs = {"reviews_per_month": 365, "review_minutes": 2, "hourly_usd": 60, "retraining_usd": 5}
    found = of(store, now=until, costs=costs, monitor={"reviews_to_retrain": 73}).total
    assert found.own_usd - plain.own_usd == pytest.approx((365 * 2 + 5 * 5) / (365 / 12))


def test_a_retraining_costs_what_the_verdict_measured_where_the_spec_has_no_price(store: Store, tmp_path: Path) -> None:
    judged(tmp_path, retraining=365.0)
    days = tally(date(2026, 11, 1), 1000, captured=0), tally(date(2026, 11, 2), 0)
    found = of(store, *days, folder=tmp_path, now=datetime(2026, 11, 3, tzinfo=UTC))
    assert found.total.own_usd == pytest.approx(2 * (24 * MACHINE + 12)), "on a day without requests too"
    assert found.sentence.endswith(" Not counted: reviews (costs.hourly_usd).")
    priced = of(store, folder=tmp_path, costs={"retraining_usd": 0, "hourly_usd": 0})
    assert priced.not_counted == []
    assert "Not counted" not in priced.sentence


@pytest.mark.parametrize("is_judged", [True, False])
def test_a_retraining_that_nobody_has_measured_is_said_to_be_left_out(
    store: Store, tmp_path: Path, is_judged: bool
) -> None:
    if is_judged:
        judged(tmp_path, retraining=None)
    for answered in (3, 30_000):  # with a loss, and with a saving
        with store.session() as session:
            session.merge(tally(date(2026, 11, 2), answered))
        found = of(store, folder=tmp_path).sentence
        assert found.endswith(" Not counted: reviews (costs.hourly_usd), retraining (costs.retraining_usd).")


def test_what_building_it_cost_is_told_until_it_is_earned(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 30_000), costs={"engineering_usd": 1000})
    assert "of its engineering cost are not yet earned back" in found.sentence


def reviewed(store: Store, right: int, wrong: int, confidence: float) -> None:
    with store.session() as session:
        for number in range(right + wrong):
            name = f"{confidence}-{number}"
            answered = {"model": "tickets", "version": "a", "request": "x", "answer": "billing"}
            session.add(Capture(id=name, time=NOON, confidence=confidence, **answered))
            said = {"reviewer": "ana", "time": NOON, "source": "review", "right": number < right}
            session.add(Review(capture_id=name, answer="billing" if number < right else "refund", **said))


def test_the_quality_beside_it_is_what_reviewers_said_of_each_version(store: Store) -> None:
    reviewed(store, 3, 1, confidence=0.5)
    with store.session() as session:
        about = {"capture_id": "0.5-0", "reviewer": "ana", "time": NOON, "right": False}
        session.add(Review(source="review", undone=NOON, **about))
        session.add(Review(source="feedback", **about))
    (found,) = of(store, tally(date(2026, 11, 3), 4)).quality.items()
    assert found == ("a", Quality(reviewed=4, right=3, accuracy=None))


def test_an_answer_of_which_nobody_can_tell_counts_neither_as_right_nor_as_wrong(store: Store) -> None:
    """The last word counts, so one that was called right before does not count either."""
    reviewed(store, 3, 2, confidence=0.5)
    with store.session() as session:
        about = {"reviewer": "bo", "time": NOON, "source": "review", "right": False, "answer": None}
        session.add_all(Review(capture_id=f"0.5-{number}", **about) for number in (0, 4))
    (found,) = of(store, tally(date(2026, 11, 3), 5)).quality.values()
    assert (found.reviewed, found.right) == (3, 2)


def test_doubtful_answers_that_are_reviewed_first_do_not_pass_for_all(store: Store) -> None:
    reviewed(store, 30, 70, confidence=0.3)
    reviewed(store, 98, 2, confidence=0.9)
    with store.session() as session:
        for number in range(800):  # sure, and nobody has looked at them
            answered = {"model": "tickets", "version": "a", "request": "x", "answer": "billing"}
            session.add(Capture(id=f"sure-{number}", time=NOON, confidence=0.9, **answered))
    (found,) = of(store).quality.values()
    assert (found.reviewed, found.right) == (200, 128)
    assert found.accuracy
    assert found.accuracy.share.value == pytest.approx(0.1 * 0.3 + 0.9 * 0.98)


def test_nothing_captured_makes_an_empty_ledger(store: Store) -> None:
    assert of(store).months == []
