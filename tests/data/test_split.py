from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import LABELS, example, unalike
from tunewright.data.split import hold_out
from tunewright.tasks import Example

PLAIN = [
    example(unalike(f"{label} {n}"), label)
    for label, count in zip(LABELS, (200, 100, 20), strict=True)
    for n in range(count)
]
GROUPED = [
    example(unalike(f"{label} {g} {n}"), label, group=f"{label}/{g}")
    for label in LABELS
    for g in range(12)
    for n in range(g + 1)
]


def ids(examples: list[Example]) -> list[str]:
    return [e.meta.id for e in examples]


@pytest.mark.parametrize("examples", [PLAIN, GROUPED], ids=["plain", "grouped"])
def test_every_example_is_on_exactly_one_side(examples: list[Example]) -> None:
    kept, held = hold_out(examples, 0.2, 0)
    assert sorted(ids(kept) + ids(held)) == sorted(ids(examples))


def test_the_held_out_part_is_stratified() -> None:
    _, held = hold_out(PLAIN, 0.2, 0)
    assert Counter(e.answer for e in held) == {"billing": 40, "defect": 20, "refund": 4}


@pytest.mark.parametrize("seed", range(20))
def test_a_group_never_straddles(seed: int) -> None:
    kept, held = hold_out(GROUPED, 0.3, seed)
    assert held
    assert {e.meta.group for e in kept}.isdisjoint(e.meta.group for e in held)


@pytest.mark.parametrize("seed", range(20))
def test_with_groups_each_answers_share_is_right_to_half_a_group(seed: int) -> None:
    _, held = hold_out(GROUPED, 0.3, seed)
    total = Counter(e.answer for e in GROUPED)
    for label, count in Counter(e.answer for e in held).items():
        assert abs(count - 0.3 * total[label]) <= 12 / 2


def test_a_group_of_several_answers_stays_whole() -> None:
    mixed = [example(unalike(f"{g} {n}"), LABELS[n % 3], group=str(g)) for g in range(30) for n in range(4)]
    kept, held = hold_out(mixed, 0.2, 0)
    assert held
    assert {e.meta.group for e in kept}.isdisjoint(e.meta.group for e in held)


def test_repeats_of_a_text_stay_together_without_groups() -> None:
    repeated = [
        example(text, "billing") for n in range(50) for text in (unalike(str(n)), f" {unalike(str(n)).upper()}  ")
    ]
    kept, held = hold_out(repeated, 0.2, 0)
    assert held
    normal = [{" ".join(e.request.casefold().split()) for e in part} for part in (kept, held)]
    assert normal[0].isdisjoint(normal[1])


@pytest.mark.parametrize("seed", range(10))
def test_each_answer_keeps_a_group(seed: int) -> None:
    few = [example(unalike(f"{label} {n}"), label) for label in LABELS for n in range(2)]
    kept, _ = hold_out(few, 0.9, seed)
    assert {e.answer for e in kept} == set(LABELS)


def test_an_answer_of_one_group_is_not_held_out() -> None:
    kept, held = hold_out([*PLAIN, example("lonely", "privacy")], 0.5, 0)
    assert "privacy" in {e.answer for e in kept}
    assert "privacy" not in {e.answer for e in held}


def test_the_same_seed_gives_the_same_cut() -> None:
    assert hold_out(PLAIN, 0.2, 3) == hold_out(PLAIN, 0.2, 3)


def test_another_seed_gives_another_cut() -> None:
    assert set(ids(hold_out(PLAIN, 0.2, 3)[1])) != set(ids(hold_out(PLAIN, 0.2, 4)[1]))


def test_the_cut_does_not_depend_on_the_order_of_the_rows() -> None:
    assert set(ids(hold_out(PLAIN[::-1], 0.2, 0)[1])) == set(ids(hold_out(PLAIN, 0.2, 0)[1]))


def test_a_share_of_nothing_holds_nothing_out() -> None:
    assert hold_out(PLAIN, 0.0, 0) == (PLAIN, [])
