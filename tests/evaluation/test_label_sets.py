"""Several labels a text: the measures over many answers, and the baselines."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from tests.conftest import LABELS, unalike
from tunewright.evaluation.candidates.records import controls
from tunewright.evaluation.evidence import Record, record_of, score
from tunewright.evaluation.statistics.intervals import macro_of, ratio
from tunewright.inference.predictors import Answer
from tunewright.tasks import Example, Meta, MultiLabelTask
from tunewright.tasks.measures import Ratio

TASK = MultiLabelTask("Which hold?", dict.fromkeys(LABELS, ""))


def records(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[Record]:
    """Of (labels that hold, labels that are given)."""
    made = []
    for number, (gold, given) in enumerate(pairs):
        example = Example.of("x", TASK.written_out(gold), Meta(id=str(number)))
        made.append(record_of("test", example, Answer(TASK.written_out(given)), 1.0, TASK))
    return made


def test_a_score_has_micro_and_macro_f1_exact_match_and_that_of_each_label() -> None:
    a, b, c = LABELS
    result = score(records([([a], [a]), ([a, b], [a]), ([], [c]), ([], []), ([b], [b])] * 20), seed=0)
    assert result.primary_metric.value == pytest.approx(2 * 3 / (4 + 4))
    assert result.others["exact match"].value == pytest.approx(3 / 5)
    assert {label: each.value for label, each in result.fields.items()} == pytest.approx({a: 1, b: 2 / 3, c: 0})
    assert result.others["macro-F1"].value == pytest.approx(5 / 9)
    assert result.others["macro-F1"].low < 5 / 9 < result.others["macro-F1"].high
    assert list(result.others) == ["macro-F1", "exact match"]


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    draw = random.Random(0)
    pairs = [
        ([x for x in LABELS if draw.random() < 0.4], [x for x in LABELS if draw.random() < 0.4]) for _ in range(200)
    ]
    hot = MultiLabelBinarizer(classes=LABELS)
    gold, given = (hot.fit_transform([pair[side] for pair in pairs]) for side in (0, 1))
    result = score(records(pairs), seed=0)
    assert result.others["macro-F1"].value == pytest.approx(f1_score(gold, given, average="macro"))
    assert result.primary_metric.value == pytest.approx(f1_score(gold, given, average="micro"))


def test_a_mean_whose_resamples_never_differ_reaches_as_far_as_all_together() -> None:
    right = [[Ratio(2, 2), Ratio(2, 2)]] * 30
    result = macro_of(right, None, 0)
    assert result.value == result.high == 1
    assert result.low == ratio([Ratio(4, 4)] * 30, None).low < 1


def test_few_examples_of_a_label_leave_a_doubt() -> None:
    often, seldom = [Ratio(2, 2), Ratio(0, 0)], [Ratio(2, 2), Ratio(2, 2)]
    assert macro_of([often] * 30 + [seldom] * 9, None, 0).doubt == "1 of 2 labels have fewer than 10 examples"
    assert macro_of([often] * 30 + [seldom] * 10, None, 0).doubt == ""


def examples(count: int, group: bool = False) -> list[Example]:
    """Texts that name what holds: the first label in most, the others in few."""
    draw = random.Random(1)
    made = []
    for number in range(count):
        held = [label for label, share in zip(LABELS, (0.7, 0.2, 0.1), strict=True) if draw.random() < share]
        meta = Meta(id=str(number), group=str(number // 4) if group else None)
        made.append(Example.of(f"{' '.join(held)} {unalike(str(number))}", TASK.written_out(held), meta))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True])
def test_the_linear_control_learns_what_words_say(group: bool) -> None:
    known, asked = examples(300, group), examples(400, group)[300:]
    result = controls(TASK, known)
    assert list(result) == ["usual", "svm"]
    right = sum(result["svm"].answer(each.request).text == each.answer for each in asked)
    assert right > 90
    assert {result["usual"].answer(each.request).text for each in asked} == {json.dumps([LABELS[0]])}


def test_the_usual_labels_are_those_with_the_largest_f1() -> None:
    a, b, _ = LABELS
    rows = [Example.of(str(n), TASK.written_out([a, b] if n < 6 else [a]), Meta(id=str(n))) for n in range(10)]
    assert controls(TASK, rows)["usual"].answer("x").text == TASK.written_out([a, b])
    rows = [Example.of(str(n), TASK.written_out([a, b] if n < 3 else [a]), Meta(id=str(n))) for n in range(10)]
    assert controls(TASK, rows)["usual"].answer("x").text == TASK.written_out([a])


def test_the_usual_labels_are_those_of_the_requests_that_rows_stand_for() -> None:
    a, b, _ = LABELS
    rows = [
        Example.of(str(n), TASK.written_out([a, b] if n < 3 else [a]), Meta(id=str(n)), 0.04 if n < 3 else 0.01)
        for n in range(10)
    ]
    copies = [
        Example.of(each.request, each.answer, each.meta) for each in rows for _ in range(round(100 * each.weight))
    ]
    assert [controls(TASK, each)["usual"].answer("x").text for each in (rows, copies)] == [TASK.written_out([a, b])] * 2


def test_the_linear_control_learns_from_rows_by_their_weight() -> None:
    """Three of four texts with "often" have the label; the fourth stands for a hundred requests."""
    words, rows = ("always", "often", "never"), []
    for n in range(120):
        word, is_fourth = words[n // 40], n // 40 == 1 and n % 4 == 0
        answer = TASK.written_out([] if word == "never" or is_fourth else LABELS[:1])
        meta = Meta(id=str(n), group=str(n))
        rows.append(Example.of(f"{word} again", answer, meta, 100.0 if is_fourth else 1.0))
    plain = [each.model_copy(update={"weight": 1.0}) for each in rows]
    given = [[controls(TASK, each)["svm"].answer(word).text for word in words] for each in (plain, rows)]
    label, none = TASK.written_out(LABELS[:1]), TASK.written_out([])
    assert given == [[label, label, none], [label, none, none]]


@pytest.mark.parametrize("answers", [[LABELS[:1]] * 8, [[]] * 8, [LABELS[:1], []]])
def test_the_linear_control_bears_labels_that_all_or_none_have(answers: list[list[str]]) -> None:
    rows = [Example.of(f"word{n} again", TASK.written_out(each), Meta(id=str(n))) for n, each in enumerate(answers)]
    for text in ("word1 again", "§", ""):
        TASK.canonical(controls(TASK, rows)["svm"].answer(text).text)
    if len(answers) > 2:
        assert controls(TASK, rows)["svm"].answer("word1").text == TASK.written_out(answers[0])
