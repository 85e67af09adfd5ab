from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.data.test_curve import examples, random_labels
from tunewright.config import load_spec
from tunewright.core.errors import UserError
from tunewright.data.curve import curve_points
from tunewright.data.curve.learning_curve import CurveForecast, CurveRange, LearningCurve
from tunewright.economics.evidence import AT_LEAST, NEAR, EvidenceBook, Tuned, evidence_book
from tunewright.economics.facts import JobFacts, Lengths, gather
from tunewright.economics.fit import CASCADE, FitForecast, expected_range, forecast_fit, forecast_from
from tunewright.tasks import Example, Meta

EXAMPLE = REPOSITORY / "examples" / "tickets"


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve_points, "REPEATS", 1)
        yield


def judged(known: JobFacts, goal: float) -> FitForecast:
    return forecast_from(known, goal, evidence_book())


def book(ratios: dict[float, list[float]]) -> EvidenceBook:
    """Jobs on which the cheap model is right on 70 %: by their groups a label, the ratios of tuned models' errors."""
    rows = [
        Tuned(data=f"job of {groups}", groups_a_label=groups, svm=70, model="m", accuracy=100 - 30 * ratio, source="s")
        for groups, result in ratios.items()
        for ratio in result
    ]
    return EvidenceBook(as_of="2026-11", classification=rows, other=evidence_book().other)


def curve(svm: float, gain: float = 0.02) -> LearningCurve:
    more = CurveForecast(2, 20_000, CurveRange(svm + gain, svm, svm + 2 * gain), CurveRange(gain, 0.0, 2 * gain))
    sentence = "Twice the data would gain about 2.0 points."
    return LearningCurve(
        10_000, 77, 10_000, "rising", sentence, (), CurveRange(svm, svm - 0.01, svm + 0.01), svm, (more,)
    )


def facts(svm: float = 0.85, **changes: object) -> JobFacts:
    """A job like BANKING77, on which the cheap model is right on the share `svm`."""
    short = Lengths(10, 30)
    usual = JobFacts(
        rows=10_000,
        answers=77,
        classification=True,
        groups=10_000,
        grouped=True,
        median_a_label=130,
        majority=0.02,
        test_rows=3000,
        request=short,
        answer=Lengths(1, 1),
        copied=0.1,
        contradicting=0.0,
        suspects=0.0,
        curve=curve(svm),
    )
    return replace(usual, **changes)


def whats(forecast: FitForecast) -> str:
    return "; ".join(reason.what for reason in forecast.reasons)


@pytest.mark.parametrize(
    ("svm", "goal", "answer"),
    [
        (0.95, 0.9, "classical"),
        (0.905, 0.9, "worth a try"),
        (0.85, 0.75, "classical"),
        (0.85, 0.9, "worth a try"),
        (0.6, 0.9, "worth a try"),
        (0.6, 0.97, "poor fit"),
        (0.4, 0.95, "poor fit"),
    ],
)
def test_the_goal_against_the_range_gives_the_answer(svm: float, goal: float, answer: str) -> None:
    forecast = judged(facts(svm), goal)
    assert forecast.answer == answer
    assert forecast.low is not None and forecast.high is not None
    assert (answer == "poor fit") == (1 - forecast.high > CASCADE * (1 - goal))


def test_few_rows_of_clean_labels_are_where_a_tuned_model_gains_most() -> None:
    plenty, few = (judged(facts(0.6, groups=77 * n), 0.85) for n in (130, 10))
    assert plenty.high and few.high and few.high > plenty.high
    assert few.low == 0.02, "what is sure is the most frequent label"


def test_a_good_fit_needs_the_whole_range_above_the_goal() -> None:
    alike = book({10: [0.30, 0.34], 30: [0.32], 100: [0.29], 300: [0.33], 1000: [0.31]})
    low, high = expected_range(facts(0.7), alike)
    assert 0.7 < low < 0.91 < high
    answers = [forecast_from(facts(0.7), goal, alike).answer for goal in (low - 0.01, low + 0.01, high + 0.01)]
    assert answers == ["good fit", "worth a try", "worth a try"]


def test_short_of_the_goal_a_model_may_still_answer_a_part() -> None:
    forecast = judged(facts(0.72, groups=77 * 130), 0.93)
    assert forecast.answer == "worth a try"
    assert forecast.high is not None and forecast.high < 0.93
    assert "cascade" in forecast.sentence
    assert "cascade" not in judged(facts(0.9), 0.93).sentence


def test_contradicting_labels_cap_what_can_be_expected() -> None:
    capped = judged(facts(0.85, contradicting=0.12), 0.96)
    assert capped.high == pytest.approx(1 - 0.1148, abs=1e-4), "what is proven of 12 % of 10,000"
    assert "contradict" in whats(capped)
    assert facts(contradicting=0.12, groups=50).ceiling > 0.93, "of 50 less is proven"
    assert facts().ceiling == 1


def test_labels_that_only_look_wrong_lower_the_lower_end_alone() -> None:
    """Confident learning suspects labels also where none is wrong: a weak cheap model is enough."""
    clean, suspected = (judged(facts(0.6, suspects=share), 0.9) for share in (0.0, 0.2))
    assert suspected.high == clean.high
    assert facts(suspects=0.1).likely_ceiling == pytest.approx(0.945)
    assert any("D014" in change for change in suspected.changes)


@pytest.mark.parametrize(("change", "reason"), [({"median_a_label": 9}, "fewer than 10"), ({"test_rows": 57}, "±8")])
def test_too_little_data_names_what_there_is_too_little_of(change: dict[str, int], reason: str) -> None:
    forecast = judged(facts(**change), 0.9)
    assert forecast.answer == "too little data"
    assert reason in whats(forecast)


def test_the_forecast_says_which_changes_would_change_the_answer() -> None:
    changes = " ".join(judged(facts(0.6, grouped=False, test_rows=300), 0.9).changes)
    for part in ("2 times the data", "a goal of", "a test of 385 rows", "data.group"):
        assert part in changes


def test_every_reason_names_its_evidence() -> None:
    for forecast in (judged(facts(suspects=0.05, contradicting=0.01), 0.9), judged(facts(curve=None), 0.9)):
        assert all(reason.what and reason.evidence for reason in forecast.reasons)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"copied": 0.9}, "worth a try"),
        ({"copied": 0.9, "rows": 150}, "too little data"),
        ({"answer": Lengths(20, 40)}, "worth a try"),
        ({"answer": Lengths(120, 200)}, "worth a try"),
    ],
)
def test_jobs_without_labels_go_by_lengths_and_copied_words(changes: dict[str, object], answer: str) -> None:
    assert judged(facts(curve=None, classification=False, **changes), 0.9).answer == answer


@pytest.mark.slow
def test_a_job_the_cheap_model_does_is_recognised_from_its_rows_alone() -> None:
    forecast = forecast_fit(examples(50), goal=0.8, seed=0, test_rows=400)
    assert forecast.answer == "classical"
    assert forecast.facts.answers == 4
    assert forecast.facts.contradicting == 0


@pytest.mark.slow
def test_labels_by_chance_carry_no_signal() -> None:
    forecast = forecast_fit(random_labels(200), goal=0.95, seed=0, test_rows=400)
    assert forecast.answer == "no signal"
    assert "could you label them" in forecast.sentence


def test_a_frequent_label_hides_no_signal() -> None:
    """Always giving it is right as often, but the other labels are found too."""
    assert facts(0.6, majority=0.7).no_signal is False
    blind = replace(curve(0.6), macro_f1=0.012)
    assert facts(0.6, majority=0.7, curve=blind).no_signal
    assert not facts(0.6, majority=0.3, curve=blind).no_signal


def test_a_handful_of_rows_is_too_little() -> None:
    forecast = forecast_fit(examples(5), goal=0.9, seed=0)
    assert forecast.answer == "too little data"
    assert forecast.low is None


def test_extraction_is_recognised_by_the_words_that_its_answers_copy() -> None:
    rows = [
        Example.of(
            f"pay {n} euros to Ada {n * 7}", json.dumps({"amount": f"{n}", "to": f"Ada {n * 7}"}), Meta(id=str(n))
        )
        for n in range(300)
    ]
    result = gather(rows, 60, 0)
    assert (result.classification, result.curve) == (False, None)
    assert result.copied == 1.0
    assert forecast_fit(rows, goal=0.9, seed=0).answer == "worth a try"


@pytest.mark.slow
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


def test_the_nearest_evidence_has_about_as_many_groups_a_label() -> None:
    near = evidence_book().near(1e6)
    assert (near[0][0].data, len(near)) == ("SNIPS", AT_LEAST)
    assert all(10 / NEAR <= rows[0].groups_a_label <= 10 * NEAR for rows in evidence_book().near(10))


def test_few_jobs_promise_nothing() -> None:
    """Two jobs on which tuned models made half of the errors: the cheap model's own error stays possible."""
    least, most = book({10: [0.5], 100: [0.4]}).error_ratio(100).ends()
    assert least < 0.2
    assert most > 1


def test_nine_of_ten_further_jobs_lie_in_the_range() -> None:
    draw = np.random.default_rng(0)
    inside, between_extremes, draws = 0, 0, 400
    for _ in range(draws):
        sizes = np.exp(draw.uniform(np.log(10), np.log(2000), 9)).round(3)
        ratios = np.exp(-1.5 + 0.2 * np.log(sizes) + draw.normal(0, 0.35, 9))
        known = book({float(size): [float(min(ratio, 3.3))] for size, ratio in zip(sizes[:-1], ratios, strict=False)})
        least, most = known.error_ratio(float(sizes[-1])).ends()
        inside += least <= ratios[-1] <= most
        between_extremes += min(ratios[:-1]) <= ratios[-1] <= max(ratios[:-1])
    assert 0.86 < inside / draws < 0.95
    assert between_extremes / draws < 0.85, "what lies between the least and the greatest seen is no such range"


def test_no_row_of_the_book_is_refused_by_the_others() -> None:
    """Without a job's own evidence the others must not say "don't" of what it reached."""
    rows = evidence_book().classification
    for row in rows:
        others = [each for each in rows if each.data.split(",")[0] != row.data.split(",")[0]]
        known = evidence_book().model_copy(update={"classification": others})
        job = facts(row.svm / 100, groups=round(77 * row.groups_a_label))
        assert forecast_from(job, row.accuracy / 100, known).answer != "poor fit", row


@pytest.mark.slow
def test_the_shipped_example_is_worth_a_try() -> None:
    """Its new phrasings are answered by a tuned model, in part at least, while the cheap model knows little."""
    rows = [json.loads(line) for line in (EXAMPLE / "data" / "train.jsonl").read_text("utf-8").splitlines()]
    spec = load_spec(EXAMPLE)
    group = spec.data.group
    assert isinstance(group, str)
    made = [Example.of(row["text"], row["label"], Meta(id=str(n), group=row[group])) for n, row in enumerate(rows)]
    assert forecast_fit(made, goal=spec.goal.accuracy, seed=0, test_rows=160).answer in ("worth a try", "good fit")


def test_one_figure_from_elsewhere_forbids_nothing() -> None:
    for changes in ({"copied": 0.9}, {"answer": Lengths(120, 200)}):
        forecast = judged(facts(curve=None, classification=False, **changes), 0.995)
        assert (forecast.answer, forecast.low, forecast.high) == ("worth a try", None, None)
