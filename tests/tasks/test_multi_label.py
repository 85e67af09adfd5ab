"""Several labels a text: the form and the scores of an answer."""

from __future__ import annotations

import pytest

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.tasks import MultiLabelTask, task_of
from tunewright.tasks.base import Unfit, labels_of
from tunewright.tasks.measures import Ratio
from tunewright.tasks.multi_label import UnknownLabels, labels_in

LABELS = {"billing": "money matters", "defect": "", "refund": ""}
TASK = MultiLabelTask("Which hold?\n{labels}", LABELS)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ('["refund", "billing"]', '["billing","refund"]'),
        ("[]", "[]"),
        ('["defect","defect"]', '["defect"]'),
        ('{"billing": 0, "defect": 1, "refund": "1"}', '["defect","refund"]'),
        ('{"billing": false, "defect": true, "refund": ""}', '["defect"]'),
    ],
)
def test_an_answer_is_a_list_in_the_specs_order_with_each_label_once(written: str, canonical: str) -> None:
    assert TASK.canonical(written) == canonical
    assert TASK.canonical(canonical) == canonical


@pytest.mark.parametrize("written", ["refund", "", "refund; billing", '"refund"', "[1.5]", "[null]", "[true]", "{"])
def test_text_that_is_not_a_list_is_not_an_answer(written: str) -> None:
    with pytest.raises(Unfit):
        TASK.canonical(written)


def test_a_column_says_that_a_label_holds_or_does_not() -> None:
    with pytest.raises(Unfit, match="the value of 'defect' is 'maybe', which is neither 0 nor 1"):
        TASK.canonical('{"defect": "maybe"}')
    with pytest.raises(Unfit, match="neither 0 nor 1"):
        TASK.canonical('{"defect": [1]}')


def test_labels_that_the_task_lacks_are_named() -> None:
    with pytest.raises(UnknownLabels, match="'cancel', 'praise' are none of the labels") as caught:
        TASK.canonical('["praise", "billing", "cancel"]')
    assert caught.value.labels == ["cancel", "praise"]
    with pytest.raises(UnknownLabels, match="'x' is none of the labels"):
        TASK.canonical('["billing","x"]')
    with pytest.raises(UnknownLabels):
        TASK.canonical('{"cancel": 1}')


def test_numbers_may_be_labels() -> None:
    assert MultiLabelTask("Which?", {"1": "", "2": ""}).canonical("[2, 1]") == '["1","2"]'


def test_the_score_is_the_f1_of_the_labels() -> None:
    measured = TASK.measures("", '["billing","refund"]', '["defect","refund"]')
    assert next(iter(measured)) == TASK.primary_metric == "micro-F1"
    assert measured == {
        "micro-F1": Ratio(2, 4),
        "exact match": Ratio(0, 1),
        "label billing": Ratio(0, 1),
        "label defect": Ratio(0, 1),
        "label refund": Ratio(2, 2),
    }


def test_no_label_where_none_holds_is_right_and_weighs_nothing_in_the_f1() -> None:
    measured = TASK.measures("", "[]", "[]")
    assert measured == {"micro-F1": Ratio(0, 0), "exact match": Ratio(1, 1)}
    assert measured["micro-F1"].score == 1
    assert TASK.measures("", "[]", '["refund"]')["micro-F1"] == Ratio(0, 1)
    assert TASK.measures("", '["refund"]', "what a model wrote")["micro-F1"] == Ratio(0, 1)
    assert TASK.measures("", "[]", "")["micro-F1"] == Ratio(0, 1), "such as of a reply that was cut"


def test_the_prompt_lists_the_labels() -> None:
    assert TASK.prompt("help")[0].content == "Which hold?\n- billing: money matters\n- defect\n- refund"
    assert labels_of(TASK.constraint) == list(LABELS)
    assert TASK.answers == [], "any subset is an answer"


def test_labels_in_reads_canonical_answers_only() -> None:
    assert labels_in('["a","b"]') == ["a", "b"]
    assert labels_in("a") == labels_in("{}") == labels_in("[1]") == []


def test_a_spec_makes_the_task() -> None:
    task = task_of(make_spec(task={"kind": "multi_label", "instruction": "Which?", "labels": ["a", "b"]}).task)
    assert isinstance(task, MultiLabelTask)
    assert task.canonical('["b","a"]') == '["a","b"]'


@pytest.mark.parametrize(
    ("labels", "separator", "said"),
    [
        (["a"], None, "needs at least two labels"),
        (["a", "b;c"], ";", "the label 'b;c' contains the separator ';'"),
        (["a", "a"], None, "the label 'a' is listed twice"),
        (["a", "b"], "", "at least 1 character"),
    ],
)
def test_a_spec_that_can_not_be_is_refused(labels: list[str], separator: str | None, said: str) -> None:
    task = {"kind": "multi_label", "instruction": "Which?", "labels": labels}
    with pytest.raises(UserError, match=said):
        make_spec(task=task, data={"train": "train.jsonl", "separator": separator})


def test_a_separator_is_refused_where_a_row_has_one_answer() -> None:
    with pytest.raises(UserError, match="a separator is for the task multi_label, but this task is classify"):
        make_spec(data={"train": "train.jsonl", "separator": ";"})
