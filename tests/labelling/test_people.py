"""What people said of a task that has changed since."""

from __future__ import annotations

import pytest

from tests.monitoring.reviewing import EXTRACT, GENERATE, RECORD, task
from tunewright.labelling.people import PeoplesAnswer, fitted
from tunewright.tasks.base import Unfit

RENAMED = {**EXTRACT, "schema": {**RECORD, "properties": {"sum": {"type": "number"}}, "required": ["sum"]}}


def said(*answers: str | None, settled: str | None = "") -> PeoplesAnswer:
    """What people said one after the other, and what somebody settled unless it is empty."""
    same = answers[0] if len(set(answers)) == 1 else None
    return PeoplesAnswer(settled, answers, True) if settled != "" else PeoplesAnswer(same, answers, False)


def test_answers_that_the_task_has_stay_as_they_are() -> None:
    for each in (said("billing"), said("billing", "defect"), said(None), said("billing", None, settled="defect")):
        assert fitted(task(), each) == each


@pytest.mark.parametrize(
    "outdated", [said("refunds"), said("billing", "refunds"), said("billing", "defect", settled="refunds")]
)
def test_an_answer_that_decides_and_is_none_of_the_task_is_no_answer(outdated: PeoplesAnswer) -> None:
    with pytest.raises(Unfit, match="'refunds' is none of the labels"):
        fitted(task(), outdated)


def test_what_somebody_has_settled_stands_whatever_was_said_before() -> None:
    assert fitted(task(), said("billing", "refunds", settled="refund")) == said("billing", settled="refund")


def test_records_are_compared_in_their_one_form_and_those_of_a_renamed_field_are_outdated() -> None:
    twice = said('{"total": 3.0, "vendor": "a"}', '{"vendor":"a","total":3.0}')
    assert fitted(task(EXTRACT), twice).answer == '{"total":3,"vendor":"a"}'
    with pytest.raises(Unfit, match="sum"):
        fitted(task(RENAMED), twice)


def test_a_text_of_which_nothing_is_left_is_no_answer() -> None:
    with pytest.raises(Unfit, match="nothing is left"):
        fitted(task({**GENERATE, "stop": ["END"]}), said("END of it"))
