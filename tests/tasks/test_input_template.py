"""The fixed text around an input."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import LABELS, example, make_spec
from tunewright.core.errors import UserError
from tunewright.tasks import Example, Message, Meta, task_of
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.input_template import InputTemplate

WRITTEN = "Here is a ticket.\n\nTicket: {text}\n\nWhich team is it for?\n"
TEMPLATE = InputTemplate.of(WRITTEN)
JOB: dict[str, Any] = {"kind": "classify", "instruction": "Route it:\n{labels}", "labels": LABELS}


def long(text: str) -> str:
    return WRITTEN.replace("{text}", text)


@pytest.mark.parametrize("text", ["My card is gone.", " two\n\nlines ", "Ticket: Ticket: ", "{text}", "", "ſtraße 👋"])
def test_the_input_is_what_stands_between(text: str) -> None:
    assert TEMPLATE.input_of(long(text)) == text
    assert TEMPLATE.input_of(f"\n {long(text).rstrip()}  ") == text
    assert TEMPLATE.input_of(TEMPLATE.around(text)) == text


@pytest.mark.parametrize(
    "text",
    ["My card is gone.", "Ticket: x", "Here is a ticket.\n\nTicket: x", "x\n\nWhich team is it for?", "  spaces  ", ""],
)
def test_a_message_without_all_of_it_is_the_input_as_it_is(text: str) -> None:
    assert TEMPLATE.input_of(text) == text


def test_both_ends_do_not_share_letters() -> None:
    assert InputTemplate.of("aba{text}aba").input_of("aba") == "aba"
    assert InputTemplate.of("aba{text}aba").input_of("abaaba") == ""


def test_one_end_is_enough() -> None:
    assert InputTemplate.of("Ticket: {text}").input_of("Ticket: late \n") == "late \n"
    assert InputTemplate.of("{text} (Answer briefly.)").input_of(" late (Answer briefly.)") == " late"


def test_every_user_turn_of_a_conversation_loses_it() -> None:
    turns = [
        Message(role="user", content=long("My card.")),
        Message(role="assistant", content=long("What about it?")),
        Message(role="user", content=long("It is gone.")),
    ]
    found = InputForm(5, TEMPLATE).of_turns(turns)
    assert found == f"user: My card.\n\nassistant: {long('What about it?')}\n\nuser: It is gone."


def test_an_example_keeps_all_else() -> None:
    before = [Message(role="system", content="Be kind."), Message(role="user", content=long("a"), name="Ann")]
    given = Example(messages=[*before, Message(role="assistant", content="b")], meta=Meta(id="1"), weight=2.0)
    found = InputForm(0, TEMPLATE).of_example(given)
    assert found.request == "a"
    assert [message.name for message in found.messages] == [None, "Ann", None]
    assert (found.weight, given.request) == (2.0, long("a"))
    short = example("a")
    assert InputForm(0, TEMPLATE).of_example(short) is short


def test_the_model_reads_the_template_unless_it_is_left_out() -> None:
    def asked(**changes: Any) -> str:
        return task_of(make_spec(task=JOB | {"input_template": WRITTEN} | changes).task).prompt("late")[-1].content

    assert asked() == long("late").strip()
    assert [asked(leave_out=way) for way in ("template", "descriptions", "instruction")] == ["late"] * 3


def test_models_that_were_not_trained_and_shots_have_the_template() -> None:
    task = task_of(make_spec(task=JOB | {"input_template": WRITTEN, "leave_out": "instruction"}).task)
    fitted = task.untaught().fitted(lambda text: [0] * len(text))
    for each in (task.untaught(), fitted):
        prompt = each.prompt("late", [example("early")])
        assert [message.content for message in prompt if message.role == "user"] == [
            long("early").strip(),
            long("late").strip(),
        ]
        assert "- refund" in prompt[0].content
    assert task.fitted(lambda text: [0] * len(text)).prompt("late")[-1].content == "late"


@pytest.mark.parametrize("template", ["no place", "{text} {text}", " {text} ", ""])
def test_a_template_has_one_place_and_some_text(template: str) -> None:
    with pytest.raises(UserError, match="once, in the place of the input"):
        make_spec(task=JOB | {"input_template": template})


def test_a_template_that_is_not_there_can_not_be_left_out() -> None:
    with pytest.raises(UserError, match="there is no input_template"):
        make_spec(task=JOB | {"leave_out": "template"})
