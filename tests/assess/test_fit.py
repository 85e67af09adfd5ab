from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.data.test_curve import examples, random_labels
from tunewright.assess.evidence import EvidenceBook, Tuned, evidence_book
from tunewright.assess.facts import Facts, Lengths, gather
from tunewright.assess.fit import FitForecast, expected_range, forecast_fit, forecast_from
from tunewright.data import curve_points
from tunewright.data.curve import CurveForecast, LearningCurve, Range
from tunewright.errors import UserError
from tunewright.tasks import Example, Meta


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve_points, "REPEATS", 1)
        yield


def judged(known: Facts, goal: float) -> FitForecast:
    return forecast_from(known, goal, evidence_book())


def book(ratios: dict[float, list[float]]) -> EvidenceBook:
    """Jobs on which the cheap model is right on 70 %: by their groups a label, the ratios of tuned models' errors."""
    rows = [
        Tuned(data=f"job of {groups}", groups_a_label=groups, svm=70, model="m", accuracy=100 - 30 * ratio, source="s")
        for groups, found in ratios.items()
        for ratio in found
    ]
    return EvidenceBook(as_of="2026-11", classification=rows, other=evidence_book().other)


def curve(svm: float, gain: float = 0.02) -> LearningCurve:
    more = CurveForecast(2, 20_000, Range(svm + gain, svm, svm + 2 * gain), Range(gain, 0.0, 2 * gain))
    sentence = "Twice the data would gain about 2.0 points."
    return LearningCurve(
        10_000, 77, 10_000, "rising", sentence, (), Range(svm, svm - 0.01, svm + 0.01), svm, (more,)
    )  # fmt: skip


def facts(svm: float = 0.85, **changes: object) -> Facts:
    """A job like BANKING77, on which the cheap model is right on the share `svm`."""
    short = Lengths(10, 30)
    usual = Facts(
        rows=10_000, answers=77, classification=True, groups=10_000, grouped=True, median_a_label=130, test_rows=3000,
        request=short, answer=Lengths(1, 1), copied=0.1, contradicting=0.0, suspects=0.0, curve=curve(svm),
    )  # fmt: skip
    return replace(usual, **changes)


def whats(forecast: FitForecast) -> str:
    return "; ".join(reason.what for reason in forecast.reasons)


@pytest.mark.parametrize(
    ("svm", "goal", "answer"),
    [(0.95, 0.9, "classical"), (0.905, 0.9, "worth a try"), (0.85, 0.75, "classical"), (0.85, 0.9, "worth a try"),
     (0.6, 0.9, "poor fit"), (0.4, 0.95, "poor fit")],
)  # fmt: skip
def test_the_goal_against_the_range_gives_the_answer(svm: float, goal: float, answer: str) -> None:
    forecast = judged(facts(svm), goal)
    assert forecast.answer == answer
    assert forecast.low is not None and forecast.high is not None
    assert (answer == "poor fit") == (forecast.high < goal)


def test_few_rows_of_clean_labels_are_where_a_tuned_model_gains_most() -> None:
    plenty, few = (judged(facts(0.6, groups=77 * n), 0.85) for n in (130, 10))
    assert plenty.high and few.high and few.high >= plenty.high
    assert few.low == pytest.approx(0.59)


def test_a_good_fit_needs_the_whole_range_above_the_goal() -> None:
    wide = facts(0.72, groups=77 * 10)
    assert judged(wide, 0.73).answer == "worth a try"
    assert judged(wide, 0.710001).answer == "worth a try"
    sure = [Tuned(data=name, groups_a_label=10, svm=70, model="m", accuracy=90, source="s") for name in "abc"]
    assert expected_range(Range(0.7, 0.69, 0.71), sure, 1.0) == pytest.approx((1 - 0.31 / 3, 1 - 0.29 / 3))


def test_contradicting_labels_cap_what_can_be_expected() -> None:
    capped = judged(facts(0.85, contradicting=0.12), 0.9)
    assert capped.answer == "poor fit"
    assert capped.high == pytest.approx(0.88)
    assert "contradict" in whats(capped)


def test_suspected_labels_cap_it_by_the_half_of_them_that_is_wrong() -> None:
    assert facts(suspects=0.1).ceiling == pytest.approx(0.945)
    assert any("D014" in change for change in judged(facts(0.6, suspects=0.1), 0.9).changes)


@pytest.mark.parametrize(("change", "reason"), [({"median_a_label": 9}, "fewer than 10"), ({"test_rows": 57}, "±8")])
def test_too_little_data_names_what_there_is_too_little_of(change: dict[str, int], reason: str) -> None:
    forecast = judged(facts(**change), 0.9)
    assert forecast.answer == "too little data"
    assert reason in whats(forecast)


def test_what_would_change_the_answer_is_said() -> None:
    changes = " ".join(judged(facts(0.6, grouped=False, test_rows=300), 0.9).changes)
    for part in ("2 times the data", "a goal of", "a test of 385 rows", "data.group"):
        assert part in changes


def test_every_reason_names_its_evidence() -> None:
    for forecast in (judged(facts(suspects=0.05, contradicting=0.01), 0.9), judged(facts(curve=None), 0.9)):
        assert all(reason.what and reason.evidence for reason in forecast.reasons)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [({"copied": 0.9}, "worth a try"), ({"copied": 0.9, "rows": 150}, "too little data"),
     ({"answer": Lengths(20, 40)}, "worth a try"), ({"answer": Lengths(120, 200)}, "poor fit")],
)  # fmt: skip
def test_jobs_without_labels_go_by_lengths_and_copied_words(changes: dict[str, object], answer: str) -> None:
    assert judged(facts(curve=None, classification=False, **changes), 0.9).answer == answer


def test_a_job_the_cheap_model_does_is_told_so_from_its_rows_alone() -> None:
    forecast = forecast_fit(examples(50), goal=0.8, seed=0, test_rows=400)
    assert forecast.answer == "classical"
    assert forecast.facts.answers == 4
    assert forecast.facts.contradicting == 0


def test_labels_by_chance_are_a_poor_fit() -> None:
    assert forecast_fit(random_labels(200), goal=0.95, seed=0, test_rows=400).answer == "poor fit"


def test_a_handful_of_rows_is_too_little() -> None:
    forecast = forecast_fit(examples(5), goal=0.9, seed=0)
    assert forecast.answer == "too little data"
    assert forecast.low is None


def test_extraction_is_told_by_what_its_answers_copy() -> None:
    rows = [
        Example.of(
            f"pay {n} euros to Ada {n * 7}", json.dumps({"amount": f"{n}", "to": f"Ada {n * 7}"}), Meta(id=str(n))
        )
        for n in range(300)
    ]
    found = gather(rows, 60, 0)
    assert (found.classification, found.curve) == (False, None)
    assert found.copied == 1.0
    assert forecast_fit(rows, goal=0.9, seed=0).answer == "worth a try"


def test_equal_texts_with_different_labels_are_counted_by_the_rarer_one() -> None:
    rows = [*examples(30), *(Example.of("Just  THIS", label, Meta(id=label)) for label in ("refund", "login", "login"))]
    rows.append(Example.of("just this", "login", Meta(id="x")))
    assert gather(rows, 30, 0).contradicting == pytest.approx(1 / 124)


@pytest.mark.parametrize("rows", [[], [Example.of("a", "x", Meta(id="1"))] * 5])
def test_one_answer_is_nothing_to_forecast(rows: list[Example]) -> None:
    with pytest.raises(UserError):
        forecast_fit(rows, goal=0.9, seed=0)


def test_the_evidence_says_when_and_where_from() -> None:
    book = evidence_book()
    assert book.as_of.startswith("20")
    assert all(row.source for row in [*book.classification, *book.other])
    assert {row.kind for row in book.other} == {"extraction", "free text"}


def test_near_evidence_has_about_as_many_groups_a_label() -> None:
    book = evidence_book()
    assert {row.data for row in book.near(10)} == {"BANKING77, 10 rows a label", "demo tickets, unseen phrasings"}
    assert {row.data for row in book.near(1e6)} == {"SNIPS intents"}


def test_few_data_sets_never_promise_to_beat_the_cheap_model() -> None:
    good = [Tuned(data=name, groups_a_label=10, svm=70, model="m", accuracy=91, source="s") for name in "abc"]
    assert error_ratios(good[:2]) == pytest.approx((0.3, 1.0))
    assert error_ratios(good) == pytest.approx((0.3, 0.3))
