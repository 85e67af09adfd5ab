"""When a shorter prompt counts as no loss, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TOKENIZER, make_spec
from tunewright.core.errors import UserError
from tunewright.evaluation.evidence import VALIDATION, Record
from tunewright.evaluation.statistics.pairs import pairs_needed
from tunewright.pruning.search import Pruning
from tunewright.pruning.trial import PromptTrial, require_provable, trial_of
from tunewright.pruning.variants import WHOLE, require_prompt, variants_of
from tunewright.pruning.words import sentence
from tunewright.tasks.input_template import InputTemplate

DESCRIBED = {"kind": "classify", "instruction": "Route it:\n{labels}", "labels": {"a": "first", "b": "second"}}


def answers(right: Sequence[bool], tokens: int = 100, group: str | None = None) -> list[Record]:
    return [
        Record(
            str(number), VALIDATION, "a", "a" if is_right else "b", 0.9, 10.0, tokens, 1, group and f"{group}{number}"
        )
        for number, is_right in enumerate(right)
    ]


def wrong(count: int, of: int) -> list[bool]:
    return [number >= count for number in range(of)]


WHOLE_ANSWERS = answers(wrong(10, 400), tokens=200)


def tried(right: Sequence[bool], whole: list[Record] = WHOLE_ANSWERS, margin: float = 0.02) -> PromptTrial:
    return trial_of("list", {"task.leave_out": "list"}, answers(right), whole, margin)


def found(*trials: PromptTrial, untried: Sequence[str] = ()) -> Pruning:
    whole = trial_of(WHOLE, {}, WHOLE_ANSWERS, WHOLE_ANSWERS, 0.02)
    return Pruning("accuracy", 400, 0.02, [whole, *trials], list(untried), Path("prune.json"))


def test_equal_answers_of_enough_rows_are_no_loss() -> None:
    trial = tried(wrong(10, 400))
    assert (trial.outcome, trial.difference, trial.prompt_tokens) == ("no loss", 0.0, 100)
    assert -0.02 <= trial.at_least < 0


def test_many_more_faults_are_worse() -> None:
    trial = tried(wrong(60, 400))
    assert (trial.outcome, trial.rows_needed) == ("worse", None)
    assert trial.high < 0 < 0.1 < -trial.low


def test_a_few_differences_show_nothing_and_say_what_would() -> None:
    trial = tried([*wrong(4, 391), *[False] * 9])  # six more are right, nine more are wrong
    assert trial.outcome == "not shown"
    assert trial.rows_needed is not None
    assert trial.rows_needed > 100


def test_of_few_groups_nothing_is_shown() -> None:
    whole = [Record(**vars(each) | {"group": str(n % 3)}) for n, each in enumerate(WHOLE_ANSWERS)]
    again = [Record(**vars(each)) for each in whole]
    assert trial_of("list", {}, again, whole, 0.02).outcome == "not shown"


def refusal(rows: int, of: int, margin: float = 0.02, groups: int | None = None) -> str:
    """Why a validation part of equal answers is refused.

    Args:
        of: rows of training and validation part.
        groups: their number; None: the rows are independent.
    """
    names = [str(number % groups) for number in range(rows)] if groups else None
    with pytest.raises(UserError) as error:
        require_provable([1.0] * rows, names, margin, of)
    return str(error.value)


def named(key: str, text: str) -> float:
    """The value that a text gives a key."""
    found = re.search(rf"{re.escape(key)}=([\d.]+\d)", text)
    assert found, text
    return float(found[1])


def test_too_few_rows_are_refused_before_anything_is_trained() -> None:
    require_provable([1.0] * 200, None, 0.02, 2000)
    assert "40 validation rows can't show that a shorter prompt loses at most 2 points" in refusal(40, 400)
    assert "no validation row" in refusal(0, 400)


@pytest.mark.parametrize("rows", [30, 75, 90])
def test_each_remedy_for_too_few_rows_is_enough(rows: int) -> None:
    of = 10 * rows
    text = refusal(rows, of)
    assert "At least 133 rows" in text
    require_provable([1.0] * int(of * named("data.validation_fraction", text)), None, 0.02, of)
    require_provable([1.0] * rows, None, named("goal.margin", text), of)


def test_a_remedy_that_does_not_help_is_not_named() -> None:
    assert "validation_fraction" not in (few := refusal(30, 200))
    assert "200 rows are too few to hold out so many" in few
    assert "More rows would not change that" in refusal(400, 4000, margin=0.002)
    grouped = refusal(400, 400_000, groups=4)
    assert "There are too few groups to tell" in grouped
    assert "goal.margin" not in grouped
    more = int(400_000 * named("data.validation_fraction", grouped))
    require_provable([1.0] * 1000, [str(number % (more // 100)) for number in range(1000)], 0.02, 400_000)


def test_the_rows_that_the_page_says_it_takes() -> None:
    require_provable([1.0] * 133, None, 0.02, 1330)
    assert "132 validation rows can't show" in refusal(132, 1330)
    assert round(pairs_needed(0.02, 0.05), -1) == 770


def test_more_rows_than_are_asked_are_not_called_enough() -> None:
    few = tried([*wrong(4, 391), *[False] * 9])
    assert "validation rows would be enough." in sentence(found(few))
    assert "more than the 1,000 that are asked at most" in sentence(found(replace(few, rows_needed=1001)))


def test_the_shortest_prompt_without_a_loss_is_recommended() -> None:
    none, worse = tried(wrong(10, 400)), tried(wrong(60, 400))
    assert found(none, worse).shortest is none
    words = sentence(found(none, worse, untried=["instruction"]))
    assert "Without list a request takes 100 tokens in place of 200 (50 % fewer)" in words
    assert "Without list it is worse by 12.5 points" in words
    assert words.endswith("Not tried after that: without instruction.")


def test_where_nothing_can_go_the_prompt_stays() -> None:
    assert found(tried(wrong(60, 400))).shortest.name == WHOLE
    assert sentence(found(tried(wrong(60, 400)))).startswith("Leave the prompt as it is. Without list it is worse")


def test_the_variants_name_the_keys_that_make_them() -> None:
    variants = variants_of(make_spec(task=DESCRIBED))
    assert [each.name for each in variants] == [WHOLE, "descriptions", "list", "instruction"]
    assert variants[2].keys == {"task.leave_out": "list"}
    assert variants[2].spec.task.model_dump()["leave_out"] == "list"


def test_a_text_around_the_inputs_goes_first_and_all_variants_take_it_off_the_data() -> None:
    around = InputTemplate.of("Read this ticket: {text}")
    variants = variants_of(make_spec(task=DESCRIBED), around)
    assert [each.name for each in variants] == [WHOLE, "template", "descriptions", "list", "instruction"]
    assert {each.spec.task.input_template for each in variants} == {"Read this ticket: {text}"}
    assert variants[1].keys == {"task.input_template": "Read this ticket: {text}", "task.leave_out": "template"}
    named = variants_of(make_spec(task=DESCRIBED | {"input_template": "Ticket: {text}"}), around)
    assert named[1].keys == {"task.leave_out": "template"}
    assert named[1].spec.task.input_template == "Ticket: {text}"


def test_what_can_not_be_pruned_is_refused() -> None:
    with pytest.raises(UserError, match="all-minilm reads the text alone"):
        require_prompt(make_spec(model="all-minilm"))
    with pytest.raises(UserError, match="nothing more that could be left out"):
        variants_of(make_spec(task=DESCRIBED | {"leave_out": "instruction"}, model=str(TOKENIZER)))
