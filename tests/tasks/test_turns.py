"""Conversations as one request."""

from __future__ import annotations

from tunewright.tasks import Example, Message, Meta
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.turns import as_one_text, turns_left_out

TURNS = [
    Message(role="user", content="My card."),
    Message(role="assistant", content="What about it?"),
    Message(role="user", content="It is gone."),
]


def example(*messages: Message) -> Example:
    return Example(messages=[*messages, Message(role="assistant", content="lost")], meta=Meta(id="1"))


def test_turns_follow_each_other_with_their_speakers() -> None:
    assert as_one_text(TURNS, 5) == "user: My card.\n\nassistant: What about it?\n\nuser: It is gone."


def test_of_a_long_conversation_the_newest_turns_count() -> None:
    assert as_one_text(TURNS, 1) == "assistant: What about it?\n\nuser: It is gone."
    assert [turns_left_out(example(*TURNS), most) for most in (0, 1, 2, 3)] == [2, 1, 0, 0]


def test_a_request_without_earlier_turns_stays_as_it_is() -> None:
    assert as_one_text(TURNS[-1:], 5) == "It is gone."
    alone = example(TURNS[-1])
    assert InputForm(5).of_example(alone) is alone


def test_an_example_keeps_its_system_prompt_and_its_answer() -> None:
    found = InputForm(1).of_example(example(Message(role="system", content="Route it."), *TURNS))
    assert [message.role for message in found.messages] == ["system", "user", "assistant"]
    assert found.request == "assistant: What about it?\n\nuser: It is gone."
    assert found.answer == "lost"


def test_calls_of_tools_and_their_results_are_turns_too() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"card": 4}'}}
    turns = [
        Message(role="assistant", content="", tool_calls=[call]),
        Message(role="tool", content="stolen", tool_call_id="1"),
        Message(role="user", content="And now?"),
    ]
    assert as_one_text(turns, 2) == 'assistant: find({"card": 4})\n\ntool: stolen\n\nuser: And now?'


def test_by_default_an_example_is_not_changed() -> None:
    given = example(*TURNS)
    assert InputForm(0).of_example(given) is given
    assert given.request == "It is gone."
