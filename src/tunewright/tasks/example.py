"""One example: a conversation in OpenAI chat form, plus where it came from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class Meta(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    source: str | None = None
    """File and line the example was read from."""
    time: str | None = None
    group: str | None = None
    """Examples of one group stay on one side of a split, and are resampled together."""


class Example(BaseModel):
    """A request (user message) and its right answer (assistant message). The system prompt belongs to the task."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Message]
    meta: Meta
    weight: float = 1.0

    @property
    def request(self) -> str:
        return self.messages[0].content

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @classmethod
    def of(cls, request: str, answer: str, meta: Meta) -> Example:
        return cls(
            messages=[Message(role="user", content=request), Message(role="assistant", content=answer)], meta=meta
        )

    def row(self) -> dict[str, Any]:
        """The JSON form, one line of a dataset file."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)
