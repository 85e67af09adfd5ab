"""The chat template of training and serving: one file, one hash, one way to turn messages into tokens.

The template marks the assistant's text with `{% generation %}`. Text outside these marks is the prompt. Both are
encoded as transformers encodes the whole text, so that a model sees the same tokens as in its instruction tuning. But
an answer always begins at a token boundary, and a message never becomes a control token.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import groupby
from typing import Any, Protocol

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from tunewright.core.call import check_call
from tunewright.core.errors import UserError
from tunewright.models.sandbox import compiled, render
from tunewright.tasks import Message, Task

# Marks that no text can contain: Unicode noncharacters, which we refuse in messages.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_QUOTE, _UNQUOTE = "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"([{_OPEN}{_CLOSE}{_QUOTE}{_UNQUOTE}])")


class UnfitText(UserError):
    """A text that can't be put into the chat template. Other texts can."""


class Tokenizer(Protocol):
    """The part of a tokenizer that encoding needs. Neither method adds tokens around the text."""

    controls: re.Pattern[str]
    """Matches a control token in a text."""

    def encode_text(self, text: str) -> list[int]:
        """Encode the template's own text, in which `<|im_end|>` and the like are control tokens."""
        ...

    def encode_verbatim(self, text: str) -> list[int]:
        """Encode a message's text, in which they are plain characters. So no request can end its turn or speak for
        another role."""
        ...


@dataclass(frozen=True)
class TokenSpan:
    """A piece of rendered text by one author."""

    text: str
    own: bool
    """Whether the assistant wrote it."""
    verbatim: bool
    """Whether it is the content of a message, not the template's own text."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation. `supervised` says for each whether the assistant wrote it."""

    ids: list[int]
    supervised: list[bool]


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: puts marks around its content."""

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
    """A Jinja chat template with generation marks, run in a sandbox; see `tunewright.models.sandbox`.

    Raises:
        UserError: it marks no generation, so training would include the prompt; or it can't be parsed.
    """

    def __init__(self, source: str, name: str = "chat_template.jinja"):
        self.source, self.name = source, name
        if not marks_generation(source):
            raise UserError(
                "The chat template marks no text as the assistant's.",
                where=name,
                why="Without {% generation %} … {% endgeneration %} training would teach the prompt, not the answer.",
                fix="Put the tags around the assistant's content and its end-of-turn token.",
            )
        try:
            self._template = compiled(source, (Generation,))
        except TemplateError as error:
            raise UserError(f"The chat template can't be parsed: {error}.", where=name) from None

    @classmethod
    def named(cls, family: str) -> ChatTemplate:
        """A template that ships with Tunewright, by its name in `templates/`."""
        file = resources.files("tunewright.models") / "templates" / f"{family}.jinja"
        return cls(file.read_text("utf-8"), f"{family}.jinja")

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def spans(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[TokenSpan]:
        """The rendered text, cut at each change of author and at both ends of a message's content.

        Raises:
            UnfitText: the template refuses the messages, or a message holds one of our marks.
        """
        quoted = [{"role": message.role, "content": _quoted(message)} for message in messages]
        try:
            text = render(
                self._template,
                {
                    "messages": quoted,
                    "add_generation_prompt": add_generation_prompt,
                    "tools": None,
                    "documents": None,
                },
            )
        except TemplateError as error:
            raise UnfitText(
                f"The chat template can't be filled in: {error}.",
                where=self.name,
                why="Training and serving give it only `messages` and `add_generation_prompt`.",
                fix="Change the template so that it needs nothing else.",
            ) from None
        spans = []
        own = verbatim = False
        for piece in _MARKS.split(text):
            if piece in (_OPEN, _CLOSE):
                own = piece == _OPEN
            elif piece in (_QUOTE, _UNQUOTE):
                verbatim = piece == _QUOTE
            elif piece:
                spans.append(TokenSpan(piece, own, verbatim))
        return list(_ended(spans))

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Encoded:
        """Encode a whole conversation up to the assistant's last token. The model never has to write what follows."""
        ids: list[int] = []
        supervised: list[bool] = []
        for own, piece in _pieces(self.spans(messages), tokenizer):
            ids += piece
            supervised += [own] * len(piece)
        while supervised and not supervised[-1]:
            ids.pop()
            supervised.pop()
        return Encoded(ids, supervised)

    def encode_prompt(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """The tokens of the prompt before an answer."""
        spans = self.spans(messages, add_generation_prompt=True)
        return [token for _, piece in _pieces(spans, tokenizer) for token in piece]

    def encode_answer(self, messages: Sequence[Message], answer: Message, tokenizer: Tokenizer) -> list[int]:
        """The tokens of an assistant's message with its end-of-turn token, as trained after these messages.

        Raises:
            UserError: the template doesn't mark exactly the answer and its end as the assistant's text.
        """
        conversation = [*messages, answer]
        encoded = self.encode(conversation, tokenizer)
        prompt = self.encode_prompt(messages, tokenizer)
        text = "".join(span.text for span in self._last_turn(conversation)).strip()
        content = answer.content.strip()
        consistent = encoded.ids[: len(prompt)] == prompt and all(encoded.supervised[len(prompt) :])
        if not consistent or not text.startswith(content) or text == content:
            raise UserError(
                "The chat template would teach something else than the answer and its end.",
                where=self.name,
                why=f"It marks {text!r} as the assistant's text for the answer {content!r}.",
                fix="Put {% generation %} … {% endgeneration %} exactly around the assistant's content and end token.",
            )
        return encoded.ids[len(prompt) :]

    def check(self, messages: Sequence[Message]) -> None:
        """Check a conversation that ends with an answer like `encode_answer`, without a tokenizer.

        Raises:
            UserError: see `encode_answer`.
        """
        self.encode_answer(messages[:-1], messages[-1], _Characters())

    def end_of_turn(self, messages: Sequence[Message]) -> str:
        """The template's text behind the last answer, up to the end of the assistant's turn.

        Raises:
            UserError: see `encode_answer`.
        """
        self.check(messages)
        return self._last_turn(messages)[-1].text.strip()

    def _last_turn(self, messages: Sequence[Message]) -> list[TokenSpan]:
        spans = self.spans(messages)
        while spans and not spans[-1].own:
            spans.pop()
        start = next((i for i in range(len(spans), 0, -1) if not spans[i - 1].own), 0)
        return spans[start:]


class _Characters:
    """A tokenizer with one token a character."""

    controls = re.compile("(?!)")

    def encode_text(self, text: str) -> list[int]:
        return list(map(ord, text))

    encode_verbatim = encode_text


def _quoted(message: Message) -> str:
    """A message's content with marks around it. White space that templates trim stays outside the marks. An answer is
    not trimmed, because it may begin with a space."""
    if _MARKS.search(message.content):
        raise UnfitText("A message holds a Unicode noncharacter (U+FDD0 to U+FDD3).", fix="Remove it.")
    if message.role == "assistant":
        return f"{_QUOTE}{message.content}{_UNQUOTE}"
    text = message.content
    head = len(text) - len(text.lstrip())
    tail = max(head, len(text.rstrip()))
    return f"{text[:head]}{_QUOTE}{text[head:tail]}{_UNQUOTE}{text[tail:]}"


def _ended(spans: Sequence[TokenSpan]) -> Iterator[TokenSpan]:
    """The spans without line breaks at the ends of the assistant's text. Templates mark them as the assistant's, but
    before an answer they belong to the prompt, and after the end of a turn nobody needs them."""
    for place, span in enumerate(spans):
        if not span.own or span.verbatim:
            yield span
            continue
        first = place == 0 or not spans[place - 1].own
        last = place == len(spans) - 1 or not spans[place + 1].own
        head = len(span.text) - len(span.text.lstrip("\n")) if first else 0
        tail = len(span.text.rstrip("\n")) if last else len(span.text)
        for text, own in (
            (span.text[:head], False),
            (span.text[head:tail], True),
            (span.text[max(head, tail) :], False),
        ):
            if text:
                yield TokenSpan(text, own, verbatim=False)


def _pieces(spans: Sequence[TokenSpan], tokenizer: Tokenizer) -> Iterator[tuple[bool, list[int]]]:
    """(whether the assistant is the author, the tokens) of each run of spans by one author."""
    before: list[TokenSpan] = []
    for own, group in groupby(spans, key=lambda span: span.own):
        run = list(group)
        yield own, _behind(before, run, tokenizer)
        before = run


def _encoded(run: Sequence[TokenSpan], tokenizer: Tokenizer) -> list[int]:
    """Encode spans as one text, or piece by piece if a message would become a control token in it."""
    text = "".join(span.text for span in run)
    in_template = sum(len(tokenizer.controls.findall(span.text)) for span in run if not span.verbatim)
    if len(tokenizer.controls.findall(text)) == in_template:
        return tokenizer.encode_text(text)
    encode = {True: tokenizer.encode_verbatim, False: tokenizer.encode_text}
    return [token for span in run for token in encode[span.verbatim](span.text)]


def _behind(before: Sequence[TokenSpan], run: Sequence[TokenSpan], tokenizer: Tokenizer) -> list[int]:
    """Encode spans in the context of those before them. Alone, a tokenizer may begin the text with an extra space."""
    context = "".join(span.text for span in before if not span.verbatim)
    start = max((match.start() for match in tokenizer.controls.finditer(context)), default=None)
    alone = _encoded(run, tokenizer)
    if start is None:
        return alone
    head = TokenSpan(context[start:], own=False, verbatim=False)
    known, whole = _encoded([head], tokenizer), _encoded([head, *run], tokenizer)
    return whole[len(known) :] if whole[: len(known)] == known else alone


def marks_generation(source: str) -> bool:
    """Whether a template marks the assistant's text."""
    return re.search(r"{%-?\s*generation\s*-?%}", source) is not None


def without_marks(text: str) -> str:
    """A rendered text without our marks."""
    return _MARKS.sub("", text)


def token_counter(tokenizer: Tokenizer) -> Callable[[str], int]:
    """The function text -> number of tokens. It raises what `tunewright.core.call.check_call` raises, because counting
    the pieces of a long text takes time."""

    def count(text: str) -> int:
        check_call()
        return len(tokenizer.encode_verbatim(text))

    return count


def answer_tokens(task: Task, template: ChatTemplate, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The tokens of each answer of a fixed set, after any prompt."""
    prompt = task.prompt("x")
    return {answer: template.encode_answer(prompt, task.written(answer), tokenizer) for answer in task.answers}


def end_token(task: Task, template: ChatTemplate, tokenizer: Tokenizer) -> int:
    """The token that ends an assistant's turn: the first one behind the answer.

    Raises:
        UserError: several tokens of plain text end it. All but one of them would stay in the answer.
    """
    end = template.end_of_turn([*task.prompt("x"), task.written("{}")])
    control = tokenizer.controls.match(end)
    ids = tokenizer.encode_text(control.group() if control else end)
    if len(ids) != 1:
        raise UserError(
            "The chat template ends an answer with a text that is no control token of the model.",
            where=template.name,
            why=f"The tokenizer cuts {end!r} into {len(ids)} tokens, so the model can't end an answer with one.",
            fix="End the assistant's text in the template with a control token of the model, such as its eos_token.",
        )
    return ids[0]
