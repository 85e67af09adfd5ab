"""The request bodies, by route."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tunewright.core.limits import LONGEST_STOP, REQUEST_SCHEMA_BYTES
from tunewright.inference.predictors import GenerationConfig
from tunewright.serving.body import RequestInput, Text, whole_letters
from tunewright.tasks import Message


class ClassifyRequest(RequestInput):
    probabilities: bool = False
    """Whether the answer lists the probability of every label."""


Stop = Annotated[
    tuple[Annotated[Text, Field(min_length=1, max_length=LONGEST_STOP)], ...],
    Field(max_length=4),
    BeforeValidator(lambda value: () if value is None else (value,) if isinstance(value, str) else value),
]
"""OpenAI's `stop`: null, a text or up to four."""


class GenerateRequest(RequestInput):
    max_tokens: int | None = Field(None, ge=1)
    """Tokens after which the answer is cut; the model's own limit holds too."""
    stop: Stop = ()
    """Texts that end the answer, in addition to the model's own."""


class ContentPart(BaseModel):
    type: Literal["text"]
    text: Text


def _text_of(content: str | Sequence[ContentPart | InputPart]) -> str:
    """A message's text. Its parts are lines, as in training rows and in captures."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]

    @property
    def text(self) -> str:
        return _text_of(self.content)

    def as_message(self) -> Message:
        return Message(role="system" if self.role == "developer" else self.role, content=self.text)


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class StreamableRequest(BaseModel):
    stream: bool | None = False
    """Here and in other settings null is the default, as OpenAI has it."""
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage is True


class JsonSchema(BaseModel):
    name: str = ""
    form: dict[str, Any] = Field(alias="schema")

    @field_validator("form")
    @classmethod
    def _small(cls, form: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(form)) > REQUEST_SCHEMA_BYTES:
            raise ValueError(f"the schema has more than {REQUEST_SCHEMA_BYTES >> 10} KiB")
        return form


class ResponseFormat(BaseModel):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_if_named(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("give json_schema if and only if type is json_schema")
        return self

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """The answer's JSON schema; None: any text."""
        if self.json_schema:
            return self.json_schema.form
        return {"type": "object"} if self.type == "json_object" else None


class ToolsRequest(BaseModel):
    """What a request says about tools. Which of it a model takes is up to the model: `tunewright.serving.tools`."""

    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    """OpenAI's former name of tools."""
    tool_choice: str | dict[str, Any] | None = None


class ChatRequest(StreamableRequest, ToolsRequest):
    """OpenAI's request. The server accepts sampling settings and ignores them: it always gives the likeliest answer.
    Limits and stop texts hold for generated text; labels and records are always whole."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    n: Literal[1] | None = 1
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Stop = ()
    response_format: ResponseFormat | None = None
    """A model that generates text takes any. A model of records takes its own schema, or json_object. A label stays
    the same."""
    logprobs: bool | None = False
    """Whether the reply lists the tokens' log-probabilities. A label is one token, and its probability is the
    confidence. Streamed answers have none."""
    top_logprobs: int | None = Field(None, ge=0, le=20)
    """For a label: so many of the likeliest labels, with their log-probabilities."""

    @model_validator(mode="after")
    def _logprobs_too(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def generation_config(self) -> GenerationConfig:
        schema = self.response_format.schema_of_answer if self.response_format else None
        return GenerationConfig(self.stop, self.max_completion_tokens or self.max_tokens, schema)


Prompt = Annotated[
    Text,
    BeforeValidator(
        lambda value: value[0] if isinstance(value, list) and len(value) == 1 else value,
        json_schema_input_type=str | Annotated[list[str], Field(min_length=1, max_length=1)],
    ),
]
"""OpenAI's `prompt`: a text, or a list of one. A longer list asks for several answers."""


class CompletionRequest(StreamableRequest):
    """A request to /v1/completions: the prompt is the one message of a chat."""

    model: str
    prompt: Prompt
    n: Literal[1] | None = 1
    max_tokens: int | None = Field(None, ge=1)
    stop: Stop = ()
    echo: Literal[False] | None = None
    """This setting and the next two change what an answer is, and this server can't follow them."""
    suffix: Literal[""] | None = None
    logprobs: None = None

    def as_chat(self) -> ChatRequest:
        message = ChatMessage(role="user", content=self.prompt)
        return ChatRequest(
            model=self.model,
            messages=[message],
            stream=self.stream,
            max_tokens=self.max_tokens,
            stop=self.stop,
        )


class InputPart(BaseModel):
    type: Literal["input_text", "output_text", "text"]
    text: Text


class InputMessage(BaseModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[InputPart]

    @property
    def text(self) -> str:
        return _text_of(self.content)


class TextFormat(BaseModel):
    model_config = ConfigDict(extra="allow")  # the answer repeats all of it

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    form: dict[str, Any] | None = Field(None, alias="schema")


class TextOptions(BaseModel):
    format: TextFormat = TextFormat()


class ResponsesRequest(ToolsRequest):
    """A request to /v1/responses. The server keeps no conversations, so each request brings its own."""

    model: str
    input: Text | list[InputMessage]
    instructions: Text | None = None
    stream: bool | None = False
    max_output_tokens: int | None = Field(None, ge=1)
    text: TextOptions | None = None
    previous_response_id: None = None
    background: Literal[False] | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None

    @model_validator(mode="after")
    def _is_a_chat(self) -> Self:
        self.as_chat()
        return self

    def as_chat(self) -> ChatRequest:
        given = [InputMessage(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        messages = [ChatMessage(role=each.role, content=each.text) for each in given]
        if self.instructions:
            messages.insert(0, ChatMessage(role="system", content=self.instructions))
        return ChatRequest(
            model=self.model,
            messages=messages,
            stream=self.stream,
            max_tokens=self.max_output_tokens,
            response_format=self._response_format(),
            tools=self.tools,
            tool_choice=self.tool_choice,
        )

    def _response_format(self) -> ResponseFormat | None:
        if self.text is None:
            return None
        form = self.text.format
        schema = JsonSchema(name=form.name or "", schema=form.form or {}) if form.type == "json_schema" else None
        return ResponseFormat(type=form.type, json_schema=schema)


class FeedbackRequest(BaseModel):
    """A client's feedback to an answer."""

    model_config = ConfigDict(extra="forbid")

    id: Text = Field(min_length=1, max_length=64)
    """The answer's id."""
    model: str | None = None
    """The model that gave the answer; None: the only one."""
    right: bool
    answer: str | dict[str, Any] | list[str] | None = None
    """The right answer, if the model's was wrong: a label, a list of labels, a record or a text."""
    comment: Text = Field("", max_length=2000)

    @model_validator(mode="after")
    def _answer_if_wrong(self) -> Self:
        if self.right and self.answer is not None:
            raise ValueError("give answer only if right is false")
        whole_letters(json.dumps(self.answer, ensure_ascii=False))
        return self
