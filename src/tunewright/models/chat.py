"""One chat template for training and serving: one file, one hash, one way to turn messages into tokens.

The template marks what the assistant writes with `{% generation %}`. Text outside those marks is the prompt; each
marked span is encoded on its own, so that the tokens taught are exactly those a server asks for after the prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, Protocol

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.errors import UserError
from tunewright.tasks import Message

# Marks that no text can contain: they are Unicode noncharacters, refused in the input.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_FAMILY_OF_TYPE = {"llama": "chatml", "qwen2": "chatml", "qwen3": "chatml", "phi3": "phi3", "mistral": "mistral"}


class Tokenizer(Protocol):
    """What encoding needs of a tokenizer: plain text with special tokens in it to ids, nothing added."""

    def encode_text(self, text: str) -> list[int]: ...


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
        if "generation %}" not in source and "generation -%}" not in source:
            raise UserError(
                "The chat template marks nothing as the assistant's own.",
                where=name,
                why="Without {% generation %} … {% endgeneration %} training would teach the prompt, not the answer.",
                fix="Put the tags around the assistant's content and its end-of-turn token.",
            )
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation])
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

    def spans(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[tuple[str, bool]]:
        """The rendered text, cut where the author changes: (text, written by the assistant)."""
        for message in messages:
            if _OPEN in message.content or _CLOSE in message.content:
                raise UserError("A message holds the Unicode noncharacter U+FDD0 or U+FDD1.", fix="Remove it.")
        text = self._template.render(
            messages=[message.model_dump() for message in messages], add_generation_prompt=add_generation_prompt
        )
        spans = []
        for position, piece in enumerate(text.split(_OPEN)):
            generated, closed, after = piece.partition(_CLOSE)
            if position:
                spans.append((generated, True))
            spans.append((after if closed else generated, False))
        return [(piece, own) for piece, own in spans if piece]

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Encoded:
        """A whole conversation, cut after the assistant's last token: nothing behind it is ever asked for."""
        ids: list[int] = []
        supervised: list[bool] = []
        spans = self.spans(messages)
        while spans and not spans[-1][1]:
            spans.pop()
        for text, own in spans:
            piece = tokenizer.encode_text(text)
            ids += piece
            supervised += [own] * len(piece)
        return Encoded(ids, supervised)

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """The tokens a model is given before it answers."""
        return [token for text, _ in self._prompt_spans(messages) for token in tokenizer.encode_text(text)]

    def encode_answer(self, messages: Sequence[Message], answer: str, tokenizer: Tokenizer) -> list[int]:
        """The tokens of `answer` with its end-of-turn token, as taught after these messages."""
        spans = self.spans([*messages, Message(role="assistant", content=answer)])
        return tokenizer.encode_text([text for text, own in spans if own][-1])

    def _prompt_spans(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        return self.spans(messages, add_generation_prompt=True)


def family_of(model_type: str) -> str | None:
    """The template family that fits an architecture, for models outside the catalogue."""
    return _FAMILY_OF_TYPE.get(model_type)
