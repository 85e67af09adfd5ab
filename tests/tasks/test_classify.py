from __future__ import annotations

import pytest

from tests.conftest import example
from tunewright.tasks import ClassifyTask

TASK = ClassifyTask("Choose one:\n{labels}\n", {"billing": "money matters", "refund": ""})


def test_the_label_list_with_descriptions_stands_where_the_instruction_says() -> None:
    assert TASK.system == "Choose one:\n- billing: money matters\n- refund"


def test_an_instruction_without_the_mark_is_left_alone() -> None:
    assert ClassifyTask("billing or refund?", {"billing": "", "refund": ""}).system == "billing or refund?"


def test_other_braces_in_an_instruction_are_text() -> None:
    assert ClassifyTask("{labels} {json}", {"a": "", "b": ""}).system == "- a\n- b {json}"


def test_the_prompt_is_system_then_request() -> None:
    assert [(m.role, m.content) for m in TASK.prompt("help")] == [("system", TASK.system), ("user", "help")]


def test_shots_stand_between_system_and_request() -> None:
    roles = [m.role for m in TASK.prompt("help", [example("a"), example("b")])]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_a_conversation_is_the_prompt_and_the_right_answer() -> None:
    *prompt, answer = TASK.conversation(example("help", "refund"))
    assert prompt == TASK.prompt("help")
    assert (answer.role, answer.content) == ("assistant", "refund")


def test_answers_keep_the_order_of_the_spec() -> None:
    assert ClassifyTask("{labels}", {"z": "", "a": ""}).answers == ["z", "a"]


@pytest.mark.parametrize(
    ("text", "answer"), [("refund", "refund"), (" refund\n", "refund"), ("Refund", None), ("", None)]
)
def test_only_a_label_is_an_answer(text: str, answer: str | None) -> None:
    assert TASK.parse(text) == answer
