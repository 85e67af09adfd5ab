"""One chat template for training and serving: one file, one hash, one way to turn messages into tokens.

The template marks what the assistant writes with `{% generation %}`. Text outside those marks is the prompt; each
marked span is encoded on its own, so that the tokens taught are exactly those a server asks for after the prompt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, Protocol

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.errors import UserError
from tunewright.tasks import Message, Task

# Marks that no text can contain: they are Unicode noncharacters, refused in the input.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_QUOTE, _UNQUOTE = "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"([{_OPEN}{_CLOSE}{_QUOTE}{_UNQUOTE}])")
_FAMILY_OF_TYPE = {"llama": "chatml", "qwen2": "chatml", "qwen3": "chatml", "phi3": "phi3", "mistral": "mistral"}


class Tokenizer(Protocol):
    """What encoding needs of a tokenizer; neither method adds anything before or behind."""

    def encode_text(self, text: str) -> list[int]:
        """The template's own text, in which `<|im_end|>` and its like are control tokens."""
        ...

    def encode_verbatim(self, text: str) -> list[int]:
        """A message's text, in which they are just characters: no request can end its turn or speak as another."""
        ...


@dataclass(frozen=True)
class Span:
    """A piece of rendered text by one author."""

    text: str
    own: bool
    """Whether the assistant wrote it."""
    verbatim: bool
    """Whether it is a message's content rather than the template's own text."""

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        return tokenizer.encode_verbatim(self.text) if self.verbatim else tokenizer.encode_text(self.text)


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation, and for each whether the assistant wrote it (is supervised)."""

    ids: list[int]
    supervised: list[bool]


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: puts marks around what it encloses."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own contract)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_mark", lineno=line)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @staticmethod
    def _mark(caller: Any) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


class ChatTemplate:
    """A Jinja chat template with generation marks, run in a sandbox.

    Raises:
        UserError: it marks no generation (training would teach the prompt), or can't be parsed.
    """

    def __init__(self, source: str, name: str = "chat_template.jinja"):
        self.source, self.name = source, name
        if not marks_generation(source):
            raise UserError(
                "The chat template marks nothing as the assistant's own.",
                where=name,
                why="Without {% generation %} … {% endgeneration %} training would teach the prompt, not the answer.",
                fix="Put the tags around the assistant's content and its end-of-turn token.",
            )
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation], undefined=StrictUndefined
        )
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise UserError(f"The chat template can't be parsed: {error}.", where=name) from None

    @classmethod
    def named(cls, family: str) -> ChatTemplate:
        """A template that ships with Tunewright: chatml, phi3, phi4, mistral or llama3."""
        file = resources.files("tunewright.models") / "templates" / f"{family}.jinja"
        return cls(file.read_text("utf-8"), f"{family}.jinja")

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def spans(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[Span]:
        """The rendered text, cut where its author changes and where a message's content begins and ends."""
        quoted = []
        for message in messages:
            if _MARKS.search(message.content):
                raise UserError("A message holds a Unicode noncharacter (U+FDD0 to U+FDD3).", fix="Remove it.")
            quoted.append({"role": message.role, "content": f"{_QUOTE}{message.content}{_UNQUOTE}"})
        try:
            text = self._template.render(messages=quoted, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise UserError(
                f"The chat template can't be filled in: {error}.",
                where=self.name,
                why="It is given `messages` and `add_generation_prompt`, in training and in serving, and nothing else.",
                fix="Write tokens such as bos_token out as text, and leave tools and exceptions away.",
            ) from None
        spans = []
        own = verbatim = False
        for piece in _MARKS.split(text):
            if piece in (_OPEN, _CLOSE):
                own = piece == _OPEN
            elif piece in (_QUOTE, _UNQUOTE):
                verbatim = piece == _QUOTE
            elif piece:
                spans.append(Span(piece, own, verbatim))
        return spans

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Encoded:
        """A whole conversation, cut after the assistant's last token: nothing behind it is ever asked for."""
        ids: list[int] = []
        supervised: list[bool] = []
        spans = self.spans(messages)
        while spans and not spans[-1].own:
            spans.pop()
        for span in spans:
            piece = span.encode(tokenizer)
            ids += piece
            supervised += [span.own] * len(piece)
        return Encoded(ids, supervised)

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """The tokens a model is given before it answers."""
        spans = self.spans(messages, add_generation_prompt=True)
        return [token for span in spans for token in span.encode(tokenizer)]

    def encode_answer(self, messages: Sequence[Message], answer: Message, tokenizer: Tokenizer) -> list[int]:
        """The tokens of an assistant's message with its end-of-turn token, as taught after these messages.

        Raises:
            UserError: the template does not mark the answer, and more than the answer, as the assistant's own.
        """
        conversation = [*messages, answer]
        encoded = self.encode(conversation, tokenizer)
        prompt = self.encode_prompt(messages, tokenizer)
        text = "".join(span.text for span in self._last_turn(conversation)).strip()
        words = answer.content.strip()
        faithful = encoded.ids[: len(prompt)] == prompt and all(encoded.supervised[len(prompt) :])
        if not faithful or not text.startswith(words) or text == words:
            raise UserError(
                "The chat template would teach something else than the answer and its end.",
                where=self.name,
                why=f"What it marks as the assistant's own is {text!r} for the answer {words!r}.",
                fix="Put {% generation %} … {% endgeneration %} exactly around the assistant's content and end token.",
            )
        return encoded.ids[len(prompt) :]

    def _last_turn(self, messages: Sequence[Message]) -> list[Span]:
        spans = self.spans(messages)
        while spans and not spans[-1].own:
            spans.pop()
        start = next((i for i in range(len(spans), 0, -1) if not spans[i - 1].own), 0)
        return spans[start:]


def marks_generation(source: str) -> bool:
    """Whether a template says which text is the assistant's own."""
    return re.search(r"{%-?\s*generation\s*-?%}", source) is not None


def token_counter(tokenizer: Tokenizer) -> Callable[[str], int]:
    """Text -> the number of its tokens."""
    return lambda text: len(tokenizer.encode_verbatim(text))


def answer_tokens(task: Task, template: ChatTemplate, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """For each answer of a fixed set, the tokens that stand for it after any prompt."""
    prompt = task.prompt("x")
    return {answer: template.encode_answer(prompt, task.written(answer), tokenizer) for answer in task.answers}


def end_token(task: Task, template: ChatTemplate, tokenizer: Tokenizer) -> int:
    """The token that ends an assistant's turn."""
    return template.encode_answer(task.prompt("x"), task.written("{}"), tokenizer)[-1]


def family_of(model_type: str) -> str | None:
    """The template family that fits an architecture, for models outside the catalogue."""
    return _FAMILY_OF_TYPE.get(model_type)
