"""What a judge may favour: a length, and answers of its own family."""

from __future__ import annotations

import pytest

from tunewright.data.readers.forms import LOGGED
from tunewright.evaluation.marks.biases import MarkTally, bias_sentences, by_length, family_of
from tunewright.tasks import Example, Meta


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt"),
        ("o3-mini", "gpt"),
        ("chatgpt-4o-latest", "gpt"),
        ("openai/gpt-oss-120b", "gpt"),
        ("anthropic.claude-sonnet-4-v1:0", "claude"),
        ("models/gemini-3-flash", "gemini"),
        ("ministral-3b-2512", "mistral"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("Qwen/Qwen3-32B", "qwen"),
        ("my-judge", "my"),
        ("4", "4"),
    ],
)
def test_a_family_is_read_from_a_name(model: str, family: str) -> None:
    assert family_of(model) == family


def tally(rows: list[tuple[str | None, int, int]]) -> MarkTally:
    """(the model that wrote the answer, the answer's length, its mark)"""
    found = MarkTally()
    for number, (writer, letters, mark) in enumerate(rows):
        extra = {LOGGED: {"model": writer}} if writer else {}
        found.add(Example.of("request", "x" * letters, Meta(id=str(number), extra=extra)), mark)
    return found


def test_marks_of_the_judges_own_family_are_shown_beside_others() -> None:
    rows: list[tuple[str | None, int, int]] = [
        ("gpt-4o", 5, 5),
        ("gpt-5-mini", 5, 4),
        ("claude-haiku", 5, 3),
        (None, 5, 1),
    ]
    (said,) = bias_sentences("o3-mini", tally(rows), None, (None, None))
    assert "2 answers were written by the judge's own family, gpt" in said
    assert "mean mark is 4.50, that of 1 answers of other models 3.00" in said


def test_a_judge_of_another_family_and_rows_without_a_model() -> None:
    assert "No answer" in bias_sentences("gpt-4o", tally([("claude-haiku", 5, 3)]), None, (None, None))[0]
    assert "not known" in bias_sentences("gpt-4o", tally([(None, 5, 3)]), None, (None, None))[0]


def test_marks_that_follow_length_are_told() -> None:
    found = tally([(None, 10 * mark, mark) for mark in (1, 2, 3, 4, 5) * 4])
    rho = by_length(found.marks, found.lengths)
    assert rho == pytest.approx(1)
    assert "may favour a length" in bias_sentences("gpt-4o", found, rho, (None, None))[0]
    beside = bias_sentences("gpt-4o", found, rho, (0.2, 0.9))[0]
    assert "people's marks do by +0.20, the judge's by +0.90" in beside
    assert "may favour" not in beside


@pytest.mark.parametrize(
    ("marks", "lengths"), [([1, 2, 3], [1, 2, 3]), ([3] * 20, list(range(20))), (list(range(20)), [7] * 20)]
)
def test_few_or_equal_marks_tell_no_correlation(marks: list[int], lengths: list[int]) -> None:
    assert by_length(marks, lengths) is None
