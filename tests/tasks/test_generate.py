"""Free texts: their canonical form and their scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.config import parse_spec
from tunewright.tasks import task_of
from tunewright.tasks.generate import GenerateTask, cut_at_stop
from tunewright.tasks.texts import chrf, copied, repeated, rouge_l

GOLD = "To get a refund, open your orders and choose Return."


def test_the_spec_says_how_long_an_answer_may_be_and_what_ends_it() -> None:
    task = {"kind": "generate", "instruction": "Answer.", "max_tokens": 50, "stop": ["\n\n", "Q:"]}
    spec = json.dumps({"name": "replies", "task": task, "data": {"train": "train.jsonl"}})
    made = task_of(parse_spec(spec, Path("tunewright.yaml")).task)
    assert isinstance(made, GenerateTask)
    assert (made.constraint.max_tokens, made.constraint.stop) == (50, ("\n\n", "Q:"))


def test_an_answer_is_taught_without_what_stands_around_it() -> None:
    task = GenerateTask("Answer.", stop=["\n\nRegards"])
    assert task.canonical("  Yes.\r\nSure. \n\nRegards, Ann") == "Yes.\nSure."
    assert task.canonical("\n\nRegards") == ""


def test_the_first_text_that_ends_an_answer_counts_whatever_their_order() -> None:
    assert cut_at_stop("a. b; c", [";", "."]) == "a"
    assert cut_at_stop("a b", []) == "a b"


def test_the_right_answer_scores_one_and_another_little() -> None:
    task = GenerateTask("Answer.")
    right = task.measures("How do I get a refund?", GOLD, GOLD)
    wrong = task.measures("How do I get a refund?", GOLD, "We are open from nine to five.")
    assert next(iter(right)) == task.primary_metric
    assert right["chrF"].part == right["ROUGE-L"].part == right["exact"].part == 1
    assert wrong["chrF"].part < 0.3
    assert wrong["ROUGE-L"].part < 0.3
    assert wrong["exact"].part == 0
    assert task.measures("x", GOLD, "")["chrF"].part == 0


def test_rouge_counts_words_in_order() -> None:
    assert rouge_l("the cat sat", "the cat") == pytest.approx(2 * 2 / 5)
    assert rouge_l("the cat sat", "sat cat the") == pytest.approx(2 * 1 / 6)
    assert rouge_l("The CAT", "the cat") == 1


def test_chrf_is_that_of_its_paper() -> None:
    # All letters and the one pair of the answer are right, two of three letters and one of two pairs were found.
    recall = (2 / 3 + 1 / 2) / 2
    assert chrf("abc", "ab") == pytest.approx(5 * recall / (4 + recall))
    assert chrf("abc", "xyz") == 0


def test_copied_and_repeated_text_counts_in_runs_of_four_words() -> None:
    assert copied("please cancel my order number 17", "we cancel my order number 17 today") == (2, 4)
    assert copied("hello there", "one two three four five") == (0, 2)
    assert repeated("no no no no no no") == (2, 3)
    assert repeated("short") == (0, 0)


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_score_is_a_share(gold: str, answer: str) -> None:
    for part, whole in GenerateTask("Answer.").measures("a b c d", gold, answer).values():
        assert 0 <= part <= max(whole, 0) + 1e-9
