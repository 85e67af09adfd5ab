"""What can be told of one row alone. Each check gives the kinds of what it found in the row, none where all is well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from tunewright.data.job import Job, Limit
from tunewright.data.label_sets import unknown_labels
from tunewright.data.language import language_of
from tunewright.data.mojibake import lost_characters, mojibake
from tunewright.models.chat import ChatTemplate, token_counter
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task
from tunewright.tasks.base import SomeOf, labels_of

RowCheck = Callable[[Example], Iterable[str]]

LENGTH_STEP = 64
"""Token counts are told rounded up to a multiple of this."""
_TEMPLATE_TOKENS = re.compile(
    r"<\|[A-Za-z][\w ]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
"""Of the model families in the catalogue, and what has their form."""


def row_checks(job: Job) -> dict[str, RowCheck]:
    """The checks that a job allows, by the code of their finding."""
    checks: dict[str, RowCheck] = {
        "D001": lambda example: () if example.request.strip() else ("no text",),
        "D015": personal_data,
        "D016": template_tokens,
        "D021": language,
        "D024": damage,
    }
    if (task := job.task) and labels_of(task.constraint):
        checks["D002"] = lambda example: [label[:60] for label in unknown_labels(task, example.answer)]
    if task and isinstance(task.constraint, SomeOf):
        checks["D028"] = lambda example: ("no label",) if example.answer == "[]" else ()
    if job.limit:
        lengths = _Lengths(job, job.limit)
        checks["D019"] = lambda example: lengths.of(example)[0]
        checks["D020"] = lambda example: lengths.of(example)[1]
    return checks


STAND_INS = "stand_ins"
"""The key of a row that names the kinds of its stand-ins for personal data, which have the form of such data."""


def personal_data(example: Example) -> list[str]:
    """The kinds of personal data in a row's texts, its stand-ins aside."""
    found = [
        kind
        for message in example.messages
        for kind in (_kinds if message.role == "user" else _often_asked_kinds)(message.content)
    ]
    if not found:
        return []
    kinds = Counter(found)
    known = example.meta.extra.get(STAND_INS)
    if isinstance(known, list):
        kinds -= Counter(kind for kind in known if isinstance(kind, str))
    return list(kinds.elements())


def _kinds(text: str) -> tuple[str, ...]:
    from tunewright.pii import find_pii  # its patterns take long to compile: not where no row is looked at

    return tuple(span.kind for span in find_pii(text))


_often_asked_kinds = lru_cache(maxsize=512)(_kinds)
"""The same for what is said in many rows: system prompts and labels."""


def template_tokens(example: Example) -> list[str]:
    return [token for message in example.messages for token in _TEMPLATE_TOKENS.findall(message.content)]


def language(example: Example) -> tuple[str, ...]:
    """The language of the last question, where it can be told: of interest is which rows differ from the others."""
    told = language_of(example.request)
    return (told,) if told else ()


def damage(example: Example) -> list[str]:
    """Texts whose characters were read as another encoding, or lost."""
    found = []
    for message in example.messages:
        if not message.content.isascii():
            if mojibake(message.content) is not None:
                found.append("misread UTF-8")
            elif lost_characters(message.content):
                found.append("lost characters")
    return found


def without_template_tokens(text: str) -> str:
    while (less := _TEMPLATE_TOKENS.sub("", text)) != text:
        text = less  # what was around a token may make another
    return text


class _Lengths:
    """Which rows are too long, counted as training counts: (too long with the answer, too long without it)."""

    def __init__(self, job: Job, limit: Limit):
        self._task, self._limit = job.task, limit
        self._template = ChatTemplate(limit.template) if limit.template is not None else None
        # A byte is at most one token; the template's own tokens and the prompt come to each row's.
        self._spare = limit.max_length
        if job.task and self._template:
            self._spare -= sum(len(m.content.encode()) + _OVERHEAD for m in job.task.prompt(""))
        self._last: tuple[Example | None, tuple[tuple[str, ...], tuple[str, ...]]] = (None, ((), ()))

    def of(self, example: Example) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self._last[0] is not example:
            self._last = (example, self._judged(example))
        return self._last[1]

    def _judged(self, example: Example) -> tuple[tuple[str, ...], tuple[str, ...]]:
        bytes_of = (len(message.content.encode("utf-8", "surrogatepass")) + _OVERHEAD for message in example.messages)
        if sum(bytes_of) <= self._spare:
            return (), ()
        prompt, whole = self._tokens(example)
        kinds = (str(-(-whole // LENGTH_STEP) * LENGTH_STEP),)
        limit = self._limit.max_length
        return (kinds, ()) if prompt < limit < whole else ((), kinds) if prompt >= limit else ((), ())

    def _tokens(self, example: Example) -> tuple[int, int]:
        """(tokens of the prompt, tokens of prompt and answer)."""
        tokenizer, template = _tokenizer(self._limit.folder), self._template
        if template is None:  # of an encoder: the answer is not read
            chunks = [example.request]
            if self._task:
                task = self._task.within(self._limit.max_length - tokenizer.frame)
                chunks = task.chunks(example.request, token_counter(tokenizer))
            read = max(len(tokenizer.encode_framed(chunk)) for chunk in chunks)
            return read - 1, read  # what is of just the allowed length fits
        if not self._task:
            asked, whole = example.messages[:-1], example.messages
            return len(template.encode_prompt(asked, tokenizer)), len(template.encode(whole, tokenizer).ids)
        counts = []
        for training_example in self._training_examples(self._task, example):
            asked = self._task.prompt(training_example.request)
            whole = [*asked, self._task.written(training_example.answer)]
            counts.append((len(template.encode(whole, tokenizer).ids), len(template.encode_prompt(asked, tokenizer))))
        most, prompt = max(counts)
        return prompt, most

    def _training_examples(self, task: Task, example: Example) -> list[Example]:
        try:
            return task.training_examples(example, token_counter(_tokenizer(self._limit.folder)))
        except ValueError:  # its answer is no record, which is a finding of its own
            return [example]


_OVERHEAD = 64
"""Tokens that a template puts around a message, at most; a default system prompt is one more."""


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> TextTokenizer:
    return TextTokenizer(folder)
