"""One example: a conversation in OpenAI chat form, plus where it came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant", "tool", "function"]
    content: str
    """The text; empty where an assistant's message is nothing but tool calls."""
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    """The assistant's calls, as OpenAI's API has them; arguments are JSON text."""
    tool_call_id: str | None = None
    """The call that a tool's message answers."""
    weight: float | None = None
    """How much an assistant's message counts in training, if the data says so; 0: it is only read."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Other keys the data had."""


class Meta(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    source: str | None = None
    """File and line the example was read from."""
    time: str | None = None
    group: str | None = None
    """Examples of one group stay on one side of a split, and are resampled together."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Other keys the row had."""


class Example(BaseModel):
    """A conversation that ends with the right answer. In a plain one, a user message and an assistant message, the \
system prompt belongs to the task."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Message]
    meta: Meta
    weight: float = 1.0
    tools: list[dict[str, Any]] | None = None
    """The tools the assistant may call, as OpenAI's API has them."""

    @property
    def request(self) -> str:
        """The last user message before the answer."""
        return self._last("user")

    @property
    def answer(self) -> str:
        """The last assistant message."""
        return self._last("assistant")

    def _last(self, role: str) -> str:
        return next((message.content for message in reversed(self.messages) if message.role == role), "")

    @classmethod
    def of(cls, request: str, answer: str, meta: Meta) -> Example:
        return cls(
            messages=[Message(role="user", content=request), Message(role="assistant", content=answer)], meta=meta
        )

    def row(self) -> dict[str, Any]:
        """The JSON form, one line of a dataset file. Whatever is absent or has its default is left out."""
        return self.model_dump(exclude_defaults=True)


WRITTEN_OUT: Mapping[str, str] = MappingProxyType({})
"""Labels are written as they are."""


class Conversation(ABC):
    """What a model is shown: the system prompt, solved examples, the request; and how its answer is written.

    Args:
        system: the system prompt.
        lead: what the assistant writes before an answer.
        label_tokens: the token that is written in the place of each answer; empty where answers are written out.
    """

    def __init__(self, system: str, lead: str, label_tokens: Mapping[str, str] = WRITTEN_OUT):
        self.system, self.lead, self.label_tokens = system.strip(), lead, label_tokens

    def untaught(self) -> Self:
        return self

    @abstractmethod
    def canonical(self, answer: str) -> str: ...

    def of_chunk(self, answer: str) -> str:
        return self.canonical(answer)

    def within(self, tokens: int) -> Self:  # noqa: ARG002 (the protocol)
        return self

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:  # noqa: ARG002 (the protocol)
        return [request]

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:  # noqa: ARG002 (the protocol)
        return [example]

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        shown = [
            message
            for shot in shots
            for message in (Message(role="user", content=shot.request), self.written(shot.answer))
        ]
        return [Message(role="system", content=self.system), *shown, Message(role="user", content=request)]

    def written(self, answer: str) -> Message:
        return Message(role="assistant", content=self.lead + self.label_tokens.get(answer, answer))
