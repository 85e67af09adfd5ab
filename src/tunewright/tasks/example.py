"""One example: a conversation in OpenAI chat form, plus where it came from."""

from __future__ import annotations

from typing import Any, Literal

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
