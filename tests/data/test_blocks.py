from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import example, unalike
from tests.data.rows import ids, lists_of_rows, row
from tunewright.data.dedup.blocks import Block, blocks_of, key_of, rejoined
from tunewright.tasks import Example


def names(blocks: list[Block]) -> set[frozenset[str]]:
    return {frozenset(ids(block)) for block in blocks}


def test_groups_texts_and_near_copies_join_transitively() -> None:
    one, other = unalike("one"), unalike("other")
    rows = [
        row(0, one, group="A"),
        row(1, unalike("a"), group="A"),
        row(2, f"  {one.upper()}"),
        row(3, f"{one}!"),
        row(4, other),
        row(5, f"{other}x", group="B"),
        row(6, unalike("b"), group="B"),
    ]
    assert [ids(block) for block in blocks_of(rows)] == [ids(rows[:4]), ids(rows[4:])]


def test_an_empty_group_joins_nothing() -> None:
    assert len(blocks_of([example(unalike(str(n)), group="") for n in range(5)])) == 5


def test_a_group_named_like_a_text_is_not_that_text() -> None:
    rows = [row(0, "refund please"), row(1, unalike("x"), group="refund please")]
    assert len(blocks_of(rows)) == len({key_of(block) for block in blocks_of(rows)}) == 2


def test_texts_of_punctuation_alone_join_only_if_equal() -> None:
    assert names(blocks_of([row(0, "?"), row(1, "!"), row(2, "?")])) == {
        frozenset({"train-0", "train-2"}),
        frozenset({"train-1"}),
    }


@settings(max_examples=40, deadline=None)
@given(rows=lists_of_rows(), seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(rows: list[Example], seed: int) -> None:
    blocks = blocks_of(rows)
    assert sorted(ids([e for block in blocks for e in block])) == ids(rows)
    assert [block[0] for block in blocks] == sorted((block[0] for block in blocks), key=rows.index)
    assert len({key_of(block) for block in blocks}) == len(blocks)
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert names(blocks_of(shuffled)) == names(blocks)
    assert {key_of(block) for block in blocks_of(shuffled)} == {key_of(block) for block in blocks}


def test_near_copies_separated_by_a_cut_are_found_and_joined() -> None:
    text = unalike("text")
    blocks = [[row(0, text)], [row(1, unalike("a"))], [row(2, f"{text}x"), row(3, unalike("b"))]]
    assert [ids(block) for block in rejoined(blocks, blocks[:2], blocks[2:])] == [
        ["train-0", "train-2", "train-3"],
        ["train-1"],
    ]
    assert rejoined(blocks, [blocks[0], blocks[2]], [blocks[1]]) == blocks
