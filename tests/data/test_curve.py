from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.data.test_label_noise import tickets
from tunewright.core.errors import UserError
from tunewright.data.curve import curve_points
from tunewright.data.curve.classical import LinearSvmClassifier, NgramCounts
from tunewright.data.curve.curve_points import BUDGET, VECTORISING, _shuffled, measure, plan
from tunewright.data.curve.learning_curve import LEAST_ROWS, LearningCurve, learning_curve
from tunewright.tasks import Example, Meta


def examples(per_label: int = 30, seed: int = 0, group: int = 0) -> list[Example]:
    """Made-up tickets of four labels; `group` consecutive rows share a group."""
    texts, labels = tickets(seed, per_label)
    return [
        Example.of(text, label, Meta(id=str(n), group=f"{label}/{n // (4 * group)}" if group else None))
        for n, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def random_labels(rows: int) -> list[Example]:
    """Texts that don't depend on their label, so more data doesn't help."""
    draw = random.Random(0)
    words = [f"word{n}" for n in range(30)]
    return [
        Example.of(" ".join(draw.choices(words, k=6)) + f" {n}", draw.choice("ab"), Meta(id=str(n)))
        for n in range(rows)
    ]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """Deal into folds only once, which is enough for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve_points, "REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    return learning_curve(examples(), 0)


@pytest.mark.slow
def test_a_curve_has_measured_points_and_forecasts(curve: LearningCurve) -> None:
    assert (curve.rows, curve.labels, curve.shape) == (120, 4, "flat")
    assert [point.rows for point in curve.points] == sorted(point.rows for point in curve.points)
    assert curve.points[-1].rows == 96
    assert curve.now and curve.now.low <= curve.now.value <= curve.now.high
    assert [(f.factor, f.rows) for f in curve.forecasts] == [(2, 240), (5, 600)]
    assert all(f.gain.low <= f.gain.value <= f.gain.high for f in curve.forecasts)
    assert curve.rows_needed is None


def test_the_forecast_interval_holds_the_later_accuracy(curve: LearningCurve) -> None:
    more, test = examples(60), examples(200, seed=99)
    model = LinearSvmClassifier([e.request for e in more], [e.answer for e in more])
    right = np.mean([a == e.answer for a, e in zip(model.predict([e.request for e in test]), test, strict=True)])
    twice = curve.forecasts[0].accuracy
    assert twice.low - 0.01 <= right <= twice.high + 0.01


@pytest.mark.slow
def test_the_order_of_the_rows_does_not_matter(curve: LearningCurve) -> None:
    shuffled = examples()
    random.Random(5).shuffle(shuffled)
    assert learning_curve(shuffled, 0) == curve


@pytest.mark.slow
def test_another_seed_gives_another_measurement(curve: LearningCurve) -> None:
    assert learning_curve(examples(), 1).points != curve.points


@pytest.mark.slow
def test_random_labels_promise_no_gain() -> None:
    found = learning_curve(random_labels(200), 0)
    assert found.shape in ("flat", "unclear")
    assert found.now and found.now.low < 0.55


@pytest.mark.parametrize("rows", [4, 20, LEAST_ROWS - 1])
def test_too_few_rows_give_the_number_needed(rows: int) -> None:
    found = learning_curve(random_labels(rows), 0)
    assert (found.shape, found.rows_needed, found.points, found.now) == ("too few rows", LEAST_ROWS, (), None)
    assert f"{LEAST_ROWS:,} would be enough" in found.sentence


def test_rows_of_few_groups_count_as_few_rows() -> None:
    grouped = [Example.of(e.request, e.answer, Meta(id=e.meta.id, group=e.answer)) for e in examples()]
    found = learning_curve(grouped, 0)
    assert (found.shape, found.groups, found.rows_needed) == ("too few rows", 4, 480)


def test_repeats_do_not_count_as_new_rows() -> None:
    assert learning_curve(examples(3) * 10, 0).shape == "too few rows"


def test_a_group_is_never_on_both_sides() -> None:
    # Every group has its own text, and labels are random: right answers could only come from the group.
    draw = random.Random(1)
    rows = [
        Example.of(f"tok{g} tok{g} tok{g} {n}", label, Meta(id=f"{g}/{n}", group=str(g)))
        for g in range(40)
        for label in [draw.choice("ab")]
        for n in range(4)
    ]
    points = measure(rows, 0)
    assert (1 - points.errors < 0.75).all()
    assert len(np.unique(points.groups)) == 40


def test_parts_are_made_of_whole_groups() -> None:
    groups = np.repeat(np.arange(20), 5)
    order, ends = _shuffled(np.arange(100), groups, 0)
    assert sorted(order.tolist()) == list(range(100))
    assert ends.tolist() == list(range(5, 101, 5))
    for end in ends:
        assert len(set(groups[order[:end]].tolist())) == end // 5
    assert not np.array_equal(order, _shuffled(np.arange(100), groups, 1)[0])


@pytest.mark.slow
def test_the_measured_error_is_that_of_a_sample_of_that_size() -> None:
    """Unbiased even with few rows a label, where folds dealt by label would hide a part of the error."""
    draw = random.Random(3)

    def sample(rows: int) -> list[Example]:
        labels = [draw.randrange(40) for _ in range(rows)]
        return [
            Example.of(f"w{label} c{draw.randrange(9999)}", str(label), Meta(id=str(n)))
            for n, label in enumerate(labels)
        ]

    test, measured, real = sample(500), [], []
    for seed in range(16):
        rows = sample(75)
        measured.append(measure(rows, seed).errors[-1])
        part = rows[:60]
        model = LinearSvmClassifier([e.request for e in part], [e.answer for e in part])
        given = model.predict([e.request for e in test])
        real.append(np.mean([a != e.answer for a, e in zip(given, test, strict=True)]))
    assert np.mean(measured) == pytest.approx(np.mean(real), abs=0.03)


@pytest.mark.slow
def test_labels_with_one_row_are_accepted() -> None:
    rare = [Example.of(f"something rare {n}", f"rare {n}", Meta(id=f"r{n}")) for n in range(5)]
    assert learning_curve(examples(25) + rare, 0).labels == 9


@pytest.mark.parametrize("answers", [["a"] * 10, [f"answer {n}" for n in range(120)]])
def test_jobs_without_labels_are_refused(answers: list[str]) -> None:
    rows = [Example.of(f"text {n}", answer, Meta(id=str(n))) for n, answer in enumerate(answers)]
    with pytest.raises(UserError):
        learning_curve(rows, 0)


def test_the_refusal_of_free_text_gives_the_reason() -> None:
    rows = [Example.of(f"text {n}", f"answer {n}", Meta(id=str(n))) for n in range(120)]
    with pytest.raises(UserError, match="works only for classification"):
        learning_curve(rows, 0)


@pytest.mark.parametrize(("rows", "labels"), [(100, 2), (15_000, 150), (15_000, 77), (10**6, 150), (10**5, 2)])
def test_the_work_stays_within_the_budget(rows: int, labels: int) -> None:
    texts = ["x" * 50] * rows
    sizes, rounds = plan(int(0.8 * rows), labels, texts)
    work = rounds * int(sizes.sum()) * 50 * (labels + VECTORISING)
    assert work <= 1.02 * BUDGET
    assert rounds >= 3
    assert sizes[-1] <= 0.8 * rows
    assert sizes[0] >= min(2 * labels, sizes[-1])


def test_the_classifier_falls_back_to_the_usual_label() -> None:
    assert LinearSvmClassifier(["a b", "c d", "e"], ["x", "x", "x"]).predict(["anything"]) == ["x"]
    assert LinearSvmClassifier(["?", "!", "…"], ["x", "y", "y"]).predict(["?"]) == ["y"]
    assert LinearSvmClassifier(["good word", "bad thing"], ["x", "y"]).predict([]) == []


@pytest.mark.parametrize("count", [2, 5, 60])
def test_texts_counted_once_are_learnt_as_if_they_were_alone(count: int) -> None:
    rows = [*random_labels(20), *examples(20)]
    random.Random(count).shuffle(rows)
    texts, labels = [*(row.request for row in rows), "?", ""], [*(row.answer for row in rows), "a", "b"]
    learnt, asked = np.arange(count), np.arange(count, len(texts))
    alone = LinearSvmClassifier(texts[:count], labels[:count]).predict(texts[count:])
    assert NgramCounts(texts).predictions(learnt, labels[:count], asked) == alone


def test_of_texts_counted_once_too_the_usual_label_is_the_last_resort() -> None:
    assert NgramCounts(["a b", "c d", "e"]).predictions(np.arange(2), ["x", "x"], np.arange(2, 3)) == ["x"]
    assert NgramCounts(["?", "!", "…", "word"]).predictions(np.arange(3), ["x", "y", "y"], np.arange(3, 4)) == ["y"]
