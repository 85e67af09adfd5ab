"""A row of weight k counts as k rows do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.conftest import make_spec
from tests.evaluation.scenario import candidate, compared, evidence_of, verdict
from tunewright.data.readers.forms import LOGGED
from tunewright.evaluation.api.judge import Judgement, _of_split
from tunewright.evaluation.candidates.cascade import Threshold, apply_threshold, cascade_curve, choose_threshold
from tunewright.evaluation.candidates.records import Patterns, controls
from tunewright.evaluation.evidence import Record, latency, logged_latency, score
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.evaluation.verdict.details import label_scores, reliability_of
from tunewright.evaluation.verdict.targets import is_fast
from tunewright.parity.step import link
from tunewright.tasks import ClassifyTask, Example, Meta
from tunewright.tasks.extract import ExtractTask

NAMES = "aaabbc"


def weighted() -> list[Record]:
    """Records of all kinds of confidence, each of weight 1 to 7."""
    return [
        Record(
            str(n),
            "test",
            NAMES[n % 6],
            NAMES[n % 6] if n % 7 else NAMES[(n + 1) % 4],
            1 - (n // 2) / 100,
            1.0,
            10,
            2,
            weight=float(1 + n % 7),
        )
        for n in range(120)
    ]


def copies(records: list[Record]) -> list[Record]:
    """Each record as often as it counts."""
    return [replace(each, id=f"{each.id} {n}", weight=1.0) for each in records for n in range(int(each.weight))]


def test_the_cheap_baselines_learn_what_the_rows_stand_for() -> None:
    """Of ten texts alike four have the label a, and one of these weighs ten."""
    task = ClassifyTask("Sort.", dict.fromkeys("ab", ""))
    rows = [Example.of("alike", "aaaabbbbbb"[n], Meta(id=str(n)), 1.0 if n else 10.0) for n in range(10)]
    plain = [each.model_copy(update={"weight": 1.0}) for each in rows]
    answers = [[each.answer("alike").text for each in controls(task, some).values()] for some in (plain, rows)]
    assert answers == [["b", "b"], ["a", "a"]]
    assert controls(task, rows)["majority"].answer("alike").confidence == pytest.approx(13 / 19)


def test_a_linear_baseline_without_words_gives_the_label_of_the_most_weight() -> None:
    task = ClassifyTask("Sort.", dict.fromkeys("ab", ""))
    rows = [Example.of("?", label, Meta(id=str(n)), weight) for n, (label, weight) in enumerate(TWO_AND_ONE)]
    assert controls(task, rows)["svm"].answer("?").text == "b"


TWO_AND_ONE = (("a", 1.0), ("a", 1.0), ("b", 5.0))


def test_patterns_learn_what_the_rows_stand_for() -> None:
    """In every text two numbers are the total's in turn; a row where it is the second weighs ten."""
    task = ExtractTask("Read.", {"type": "object", "properties": {"total": {"type": "integer"}}})
    plain = [
        Example.of(f"net {n} gross {n + 500}", f'{{"total":{n if n % 4 else n + 500}}}', Meta(id=str(n)))
        for n in range(100, 140)
    ]
    rows = [each.model_copy(update={"weight": 1.0 if int(each.meta.id) % 4 else 10.0}) for each in plain]
    alike = [each.model_copy(update={"weight": 0.3}) for each in plain]
    answers = [Patterns(some, task.canonical).answer("net 200 gross 700").text for some in (plain, alike, rows)]
    assert answers == ['{"total":200}', '{"total":200}', '{"total":700}']


def test_a_judges_preference_is_that_of_the_copies() -> None:
    words = ["first", "second", "tie"]
    found, expected = (
        _of_split([(each, Judgement(words[int(float(each.id.split()[0])) % 3], True, True)) for each in some])
        for some in (weighted(), copies(weighted()))
    )
    assert found.preferred.value == pytest.approx(expected.preferred.value)
    assert (found.pairs, found.better) == (120, 40)


def test_a_threshold_covers_the_requests_that_its_rows_stand_for() -> None:
    threshold = Threshold(0.8, True, 100)
    found, expected = (apply_threshold(each, threshold).coverage for each in (weighted(), copies(weighted())))
    assert found == pytest.approx(expected)
    assert found != pytest.approx(sum(map(threshold.accepts, weighted())) / 120)


def test_rows_of_different_weight_guarantee_nothing() -> None:
    """190 right rows that each stand for a tenth of a request, and ten less sure wrong ones that stand for one."""
    wrong = range(130, 200, 7)
    rows = [
        Record(
            str(n), "v", "a", "b" if n in wrong else "a", 1 - n / 1000, 1.0, 10, 2, weight=1.0 if n in wrong else 0.1
        )
        for n in range(200)
    ]
    alike = choose_threshold([replace(each, weight=3.0) for each in rows], 0.9)
    assert alike == choose_threshold([replace(each, weight=1.0) for each in rows], 0.9)
    assert alike
    assert alike.guaranteed
    found = choose_threshold(rows, 0.9)
    assert found
    assert found.value > alike.value
    assert (found.guaranteed, "different weights" in found.doubt) == (False, True)


def test_the_curve_of_a_cascade_is_that_of_the_copies() -> None:
    api = [replace(each, answer="a") for each in weighted()]
    assert cascade_curve(weighted(), api, 70, 1000) == cascade_curve(copies(weighted()), copies(api), 70, 1000)


def test_macro_f1_is_that_of_the_copies() -> None:
    found, expected = (score(each, 0).others["macro-F1"].value for each in (weighted(), copies(weighted())))
    assert found == pytest.approx(expected)


def test_recall_and_precision_of_labels_are_those_of_the_copies() -> None:
    found, expected = (
        {each.label: (each.recall.value, each.precision and each.precision.value) for each in label_scores(records)}
        for records in (weighted(), copies(weighted()))
    )
    assert found == {label: pytest.approx(values) for label, values in expected.items()}


def test_the_calibration_error_is_that_of_the_copies() -> None:
    raw = [[replace(each, uncalibrated=each.confidence) for each in some] for some in (weighted(), copies(weighted()))]
    found, expected = (reliability_of(each, each) for each in raw)
    assert found.after == pytest.approx(expected.after)
    assert found.change and expected.change
    assert found.change.before == pytest.approx(expected.change.before)
    assert found.after != pytest.approx(reliability_of([replace(each, weight=1.0) for each in weighted()], []).after)


def test_parity_agrees_as_the_copies_do() -> None:
    task = ClassifyTask("Sort.", dict.fromkeys("abc", ""))
    found, expected = (
        link("served", [replace(each, answer="a") for each in some], some, task).agreement
        for some in (weighted(), copies(weighted()))
    )
    assert found == pytest.approx(expected)


def test_the_mean_tokens_are_those_of_the_copies() -> None:
    served = [replace(each, prompt_tokens=100 if each.weight > 3 else 10) for each in weighted()]
    found, expected = (compared(make_spec(), evidence_of(some, some)).usage for some in (served, copies(served)))
    assert found.prompt_tokens == pytest.approx(expected.prompt_tokens)


def slow_for_some(weight: float) -> list[Record]:
    """200 requests, of which two take 900 ms and have a weight of their own."""
    return [
        replace(each, latency_ms=900.0 if n < 2 else 10.0, weight=weight if n < 2 else 1.0)
        for n, each in enumerate(candidate(0.97, splits=("test",), per_split=200))
    ]


def test_the_latency_is_that_of_the_copies() -> None:
    some = slow_for_some(40.0)
    found, expected = latency(some), latency(copies(some))
    assert (found.p50_ms, found.p95_ms, found.mean_ms) == (expected.p50_ms, expected.p95_ms, expected.mean_ms)
    assert found.p95_at_most_ms == expected.p95_at_most_ms == 900
    assert latency(slow_for_some(1.0)).p95_at_most_ms == 10
    assert (found.count, found.effective, found.bounded) == (200, 22, False)
    spec = make_spec(goal={"p95_ms": 200})
    assert not is_fast(compared(spec, evidence_of(some, some)).candidates[SERVED], spec)


def test_machines_are_sized_for_the_requests_that_the_rows_stand_for() -> None:
    spec = make_spec(traffic={"requests_per_month": 10_000_000})
    found, expected = (
        compared(spec, evidence_of(some, some)).candidates[SERVED].cost.replicas
        for some in (slow_for_some(40.0), copies(slow_for_some(40.0)))
    )
    assert found == expected


def test_a_logs_times_are_those_of_the_calls_that_its_rows_stand_for() -> None:
    calls = [
        Example.of("x", "a", Meta(id=str(n), source="log", extra={LOGGED: {"seconds": seconds}}), weight)
        for n, (seconds, weight) in enumerate([(0.2, 1.0), (1.0, 3.0)])
    ]
    logged = logged_latency(calls)
    assert logged and (logged.mean_ms, logged.p50_ms) == (800, 1000)


def test_a_cascade_is_priced_by_the_requests_that_its_rows_stand_for() -> None:
    """40 texts that were sent 22 times each, and 60 that were sent twice."""
    served = [replace(each, weight=22.0 if each.confidence == 0.99 else 2.0) for each in candidate(0.4, sure=0.4)]
    result = verdict(served, candidate(0.3))
    assert result.decision == "cascade", result.sentence
    assert result.cascade["test"].coverage == pytest.approx(0.88)
    assert result.usd_per_month == pytest.approx(0.12 * 14_000 + 80, abs=1)


def test_the_error_before_calibration_and_the_one_after_are_those_of_the_same_answers() -> None:
    """Of 4,500 answers of exact confidence, 100 are also known before calibration, which changed nothing."""
    draw = random.Random(0)
    confidences = [draw.uniform(0.3, 1) for _ in range(4500)]
    served = [
        Record(str(n), "test", "a", "a" if draw.random() < confidence else "b", confidence, 1.0, 10, 2)
        for n, confidence in enumerate(confidences)
    ]
    known = [replace(each, uncalibrated=each.confidence) for each in served[::45]]
    found = reliability_of(served, known)
    assert found.change
    assert (found.change.count, found.change.before) == (100, found.change.after)
    assert found.change.noise > 3 * found.noise
    assert found.after < 2 * found.noise
