"""What of a conversation is a task's input: how many turns, and without which fixed text around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tunewright.config.sections import TaskSpec
from tunewright.tasks.example import Example, Message
from tunewright.tasks.input_template import InputTemplate
from tunewright.tasks.turns import as_one_text


@dataclass(frozen=True)
class InputForm:
    """How a task's input is read. Training, batches and the server read it by the same one."""

    earlier_turns: int = 0
    """Turns before the last user message that belong to it."""
    template: InputTemplate | None = None

    @classmethod
    def of(cls, section: TaskSpec) -> Self:
        template = section.input_template
        return cls(section.earlier_turns, None if template is None else InputTemplate.of(template))

    def can_become(self, other: InputForm) -> bool:
        """Whether what was read by this form can be read by another one: what this one took off or joined is lost."""
        return self.template in (None, other.template) and self.earlier_turns in (0, other.earlier_turns)

    def of_text(self, text: str) -> str:
        """The input in one message."""
        return self.template.input_of(text) if self.template else text

    def of_turns(self, turns: Sequence[Message]) -> str:
        """The input in a conversation: the last turn, and up to `earlier_turns` of those before it.

        Args:
            turns: as of `as_one_text`.
        """
        return as_one_text([self._without_template(turn) for turn in turns], self.earlier_turns)

    def of_example(self, example: Example) -> Example:
        """The example with its input as its last user message, and with the turns that belong to it in that message.

        An example whose last message before the answer is no user's stays as it is.
        """
        before = example.messages[:-1]
        turns = [message for message in before if message.role != "system"]
        if not turns or turns[-1].role != "user":
            return example
        text = self.of_turns(turns)
        if self.earlier_turns and len(turns) > 1:
            system = [message for message in before if message.role == "system"]
            return example.model_copy(
                update={"messages": [*system, Message(role="user", content=text), example.messages[-1]]}
            )
        if text == turns[-1].content:
            return example
        place = max(number for number, message in enumerate(before) if message is turns[-1])
        before[place] = turns[-1].model_copy(update={"content": text})
        return example.model_copy(update={"messages": [*before, example.messages[-1]]})

    def _without_template(self, turn: Message) -> Message:
        if self.template is None or turn.role != "user":
            return turn
        return turn.model_copy(update={"content": self.template.input_of(turn.content)})
