"""An example: a conversation in OpenAI chat form, with its origin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from tunewright.tasks.input_template import InputTemplate


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant", "tool", "function"]
    content: str
    """The text; empty if an assistant's message has only tool calls."""
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    """The assistant's calls in the form of OpenAI's API; arguments are JSON text."""
    tool_call_id: str | None = None
    """The call that a tool's message answers."""
    weight: float | None = None
    """The weight of an assistant's message in training, if the data gives one; 0: context only."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Other keys of the data."""


class Meta(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    source: str | None = None
    """File and line of the example."""
    time: str | None = None
    group: str | None = None
    """Examples of one group stay on one side of a split and are resampled together."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Other keys of the row."""


class Example(BaseModel):
    """A conversation that ends with the right answer. A plain one has a user message and an assistant message; its \
system prompt comes from the task."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Message]
    meta: Meta
    weight: float = 1.0
    tools: list[dict[str, Any]] | None = None
    """The tools that the assistant may call, in the form of OpenAI's API."""

    @property
    def importance(self) -> float:
        """How many rows it counts as, in training and in every figure: its weight times that of its answer."""
        answer = next((message.weight for message in reversed(self.messages) if message.role == "assistant"), None)
        return self.weight if answer is None else self.weight * answer

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
    def of(cls, request: str, answer: str, meta: Meta, weight: float = 1.0) -> Example:
        messages = [Message(role="user", content=request), Message(role="assistant", content=answer)]
        return cls(messages=messages, meta=meta, weight=weight)

    def row(self) -> dict[str, Any]:
        """The JSON form, one line of a dataset file. It leaves out absent values and defaults."""
        return self.model_dump(exclude_defaults=True)


WRITTEN_OUT: Mapping[str, str] = MappingProxyType({})
"""The `label_tokens` of a task whose labels are written out."""


class Conversation(ABC):
    """The conversation of a task: the system prompt, solved examples, the request, and the assistant's answer.

    Args:
        system: the system prompt.
        lead: the text that the assistant writes before an answer.
        label_tokens: the single token that stands for each label; empty if labels are written out.
        whole: the system prompt for a model that was not trained on the task; None: the same.
    """

    def __init__(self, system: str, lead: str, label_tokens: Mapping[str, str] = WRITTEN_OUT, whole: str | None = None):
        self.system, self.lead, self.label_tokens = system.strip(), lead, label_tokens
        self._whole = self.system if whole is None else whole.strip()
        self._template: InputTemplate | None = None
        self._shows_template = True

    def surrounded(self, template: InputTemplate | None, *, shown: bool) -> Self:
        """This task with fixed text around the input in users' messages.

        Args:
            shown: whether the model reads that text.
        """
        task = copy(self)
        task._template, task._shows_template = template, shown
        return task

    def untaught(self) -> Self:
        task = self.surrounded(self._template, shown=True)
        task.system = self._whole
        return task

    def answer_in(self, message: Message) -> str:
        return message.content

    @abstractmethod
    def canonical(self, answer: str) -> str: ...

    def of_chunk(self, answer: str) -> str:
        return self.canonical(answer)

    def fitting_part(self, answer: str, *, is_chunk: bool = False) -> str:  # noqa: ARG002 (the protocol)
        """The answer unchanged: only a record has parts."""
        return answer

    def within(self, tokens: int) -> Self:  # noqa: ARG002 (the protocol)
        return self

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:  # noqa: ARG002 (the protocol)
        return [request]

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:  # noqa: ARG002 (the protocol)
        return [example]

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        shown = [message for shot in shots for message in (self._asked(shot.request), self.written(shot.answer))]
        return [Message(role="system", content=self.system), *shown, self._asked(request)]

    def _asked(self, request: str) -> Message:
        around = self._template.around(request) if self._template and self._shows_template else request
        return Message(role="user", content=around)

    def written(self, answer: str) -> Message:
        return Message(role="assistant", content=self.lead + self.label_tokens.get(answer, answer))
