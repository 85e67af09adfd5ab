"""People's marks against a judge's: shares, kappa, both errors at the mark, and what is no more than chance."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.evaluation.marks.agreement import MarkAgreement, agreement_of, enough, peoples_marks
from tunewright.evaluation.statistics.intervals import wilson


def compared(people: list[int], judge: list[int | None], least: int = 3) -> MarkAgreement:
    found = agreement_of(people, judge, least, seed=0)
    assert found
    return found


def judged(quality: float, count: int, bad: float, draw: random.Random) -> MarkAgreement:
    """A judge that puts an answer on the right side of the mark 3 with that probability."""
    people = [draw.choice((1, 2)) if draw.random() < bad else draw.choice((3, 4, 5)) for _ in range(count)]
    judge: list[int | None] = [
        draw.choice((1, 2)) if (mark < 3) == (draw.random() < quality) else draw.choice((3, 4, 5)) for mark in people
    ]
    return compared(people, judge)


def test_both_errors_at_the_mark_are_counted_apart() -> None:
    found = compared([1, 1, 2, 2, 3, 4, 5, 5, 5, 4], [1, 2, 3, 2, 2, 4, 5, 4, 1, None])
    assert (found.rows, found.unread, found.below) == (9, 1, 4)
    assert found.same.value == pytest.approx(4 / 9)
    assert found.within_one.value == pytest.approx(8 / 9)
    assert found.missed and found.missed.value == pytest.approx(1 / 4)
    assert found.lost and found.lost.value == pytest.approx(2 / 5)
    assert found.right and found.right.value == pytest.approx(3 / 5)
    said = " ".join(found.sentences)
    assert "Of 4 answers that people put below 3, the judge keeps 25%" in said
    assert "Of 5 that people keep, the judge leaves out 40%" in said
    assert "People would leave out 60%" in said
    assert "no mark to 1 further" in said


def test_a_side_that_people_never_chose_has_no_error() -> None:
    found = compared([4] * 40, [4] * 39 + [1])
    assert found.missed is None
    assert found.lost and found.lost.value == pytest.approx(1 / 40)
    assert not found.by_chance, "without a bad answer nobody knows"
    assert "too few" in found.sentences[-1]


def test_a_judge_that_marked_nothing_can_not_be_compared() -> None:
    assert agreement_of([1, 5], [None, None], 3, 0) is None


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    draw = random.Random(seed)
    people = [draw.randint(1, 5) for _ in range(60)]
    judge: list[int | None] = [min(5, max(1, mark + draw.choice((-1, 0, 0, 1, 2)))) for mark in people]
    kappa = compared(people, judge).kappa
    assert kappa.value == pytest.approx(cohen_kappa_score(people, judge, weights="quadratic", labels=[1, 2, 3, 4, 5]))
    assert kappa.low < kappa.value < kappa.high


@pytest.mark.parametrize(("judge", "kappa"), [([4, 4, 4], 1.0), ([4, 5, 3], 0.0), ([1, 1, 1], 0.0)])
def test_kappa_where_people_give_one_mark_only(judge: list[int | None], kappa: float) -> None:
    assert compared([4, 4, 4], judge).kappa.value == kappa


@pytest.mark.slow
def test_a_coin_is_found_out_and_a_good_judge_is_not_refused() -> None:
    draw = random.Random(0)
    coins = [judged(0.5, 93, 0.15, draw) for _ in range(200)]
    assert sum(found.by_chance for found in coins) >= 0.95 * 200
    assert sum(found.beyond_chance for found in coins) <= 0.04 * 200
    good = [judged(0.9, 93, 0.15, draw) for _ in range(200)]
    assert sum(found.by_chance for found in good) <= 0.01 * 200


def test_few_marks_prove_nothing_either_way() -> None:
    found = compared([1, 5, 1, 5], [5, 1, 1, 5])
    assert not found.beyond_chance
    assert not found.by_chance
    assert "too few" in found.sentences[-1]


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2])
def test_enough_marks_are_just_enough(margin: float) -> None:
    count = enough(margin)

    def wider(trials: int) -> float:
        found = wilson(trials // 2, trials)
        return (found.high - found.low) / 2

    assert wider(count + count % 2) <= margin + 1e-9
    assert wider(count - 2 - count % 2) > margin


def marks_in(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "ours.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_rows_without_a_mark_wait_for_one(tmp_path: Path) -> None:
    row = {"text": "t", "answer": "a"}
    marks_in(tmp_path, [row | {"mark": 4}, row | {"mark": None}, row | {"mark": "2"}])
    spec = make_spec(tmp_path, judge={"model": "large", "human_marks": "ours.jsonl"})
    assert [each.mark for each in peoples_marks(spec)] == [4, 2]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "t", "answer": "a", "mark": 6}, r"ours\.jsonl:1.*none of 1 to 5"),
        ({"text": "t", "answer": "a", "mark": True}, "none of 1 to 5"),
        ({"text": "t", "answer": "a", "mark": 3.5}, "none of 1 to 5"),
        ({"text": "t", "answer": "a"}, "no marked answer"),
        ({"text": "t", "mark": 3}, "no marked answer"),
        ({"text": "t", "answer": "a", "mark": None}, "No row of this file has a mark yet"),
    ],
)
def test_a_row_that_is_no_marked_answer_is_named(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    marks_in(tmp_path, [row])
    spec = make_spec(tmp_path, judge={"model": "large", "human_marks": "ours.jsonl"})
    with pytest.raises(UserError, match=expected):
        peoples_marks(spec)


def test_a_file_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, judge={"model": "large", "human_marks": "nowhere.jsonl"})
    with pytest.raises(UserError, match=r"nowhere\.jsonl.*Check judge\.human_marks"):
        peoples_marks(spec)
