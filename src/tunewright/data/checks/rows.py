"""Checks of one row alone. Each returns the kinds of problems in the row, none where all is well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from tunewright.config.tool_list import UnfitTool, name_of, plain_tool, same_tools
from tunewright.data.corrections import version_of_correction
from tunewright.data.job import Job, Limit
from tunewright.data.label_sets import unknown_labels
from tunewright.data.language import language_of
from tunewright.data.mojibake import lost_characters, mojibake
from tunewright.data.times import kind_of_time
from tunewright.models.chat import ChatTemplate, token_counter
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task
from tunewright.tasks.base import SomeOf, ToolCall, labels_of

RowCheck = Callable[[Example], Iterable[str]]

LENGTH_STEP = 64
"""Messages round token counts up to a multiple of this."""
_TEMPLATE_TOKENS = re.compile(
    r"<\|[A-Za-z][\w ]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
"""Tokens of the model families in the catalogue, and texts of the same form."""


def row_checks(job: Job) -> dict[str, RowCheck]:
    """The checks that apply to a job, by the code of their finding."""
    checks: dict[str, RowCheck] = {
        "D001": lambda example: () if example.request.strip() else ("no text",),
        "D015": personal_data,
        "D016": template_tokens,
        "D021": language,
        "D024": damage,
        "D031": weights,
    }
    if job.data.time:
        checks["D010"] = kind_of_row_time
    task = job.task
    if task:
        checks["D030"] = lambda example: ("tool call",) if is_untaught_call(task, example) else ()
    if task and labels_of(task.constraint):
        checks["D002"] = lambda example: (
            [] if is_untaught_call(task, example) else [label[:60] for label in unknown_labels(task, example.answer)]
        )
    if task and isinstance(task.constraint, SomeOf):
        checks["D028"] = lambda example: ("no label",) if example.answer == "[]" else ()
    if job.limit:
        lengths = _Lengths(job, job.limit)
        checks["D019"] = lambda example: lengths.of(example)[0]
        checks["D020"] = lambda example: lengths.of(example)[1]
    return checks


def weights(example: Example) -> tuple[str, ...]:
    """The weight of a row, if it does not count once."""
    return () if example.importance == 1 else (f"{example.importance:g}",)


NO_TIME = "no time"
"""In place of a time's kind."""


def kind_of_row_time(example: Example) -> tuple[str, ...]:
    """The kind of a row's time. Not a fault by itself; the rows are compared later. That of a correction fits all."""
    kind = kind_of_time(example)
    if kind is None:
        return (NO_TIME,)
    return () if version_of_correction(example.meta.source) else (kind,)


def is_untaught_call(task: Task, example: Example) -> bool:
    """Whether the answer is a tool call without a text, and the task teaches none."""
    last = example.messages[-1]
    return bool(last.tool_calls) and not task.answer_in(last).strip()


def other_tools(rule: ToolCall, example: Example) -> tuple[str, ...]:
    """What is other about the tools of a row than those of the task; nothing where the row names none."""
    if not example.tools:
        return ()
    try:
        tools = [plain_tool(tool) for tool in example.tools]
    except UnfitTool as error:
        return (str(error)[:80],)
    if same_tools(tools, rule.tools):
        return ()
    given, known = {name_of(tool) for tool in tools}, {name_of(tool) for tool in rule.tools}
    strange = (*(f"'{name}' is new" for name in given - known), *(f"'{name}' is absent" for name in known - given))
    return tuple(sorted(strange)) or ("other arguments",)


STAND_INS = "stand_ins"
"""The key of a row under which `data fix` lists the kinds of its stand-ins, which have the form of personal data."""


def personal_data(example: Example) -> list[str]:
    """The kinds of personal data in a row's texts, except its stand-ins."""
    kinds = Counter(
        kind
        for message in example.messages
        for kind in (_kinds if message.role == "user" else _cached_kinds)(message.content)
    )
    if not kinds:
        return []
    known = example.meta.extra.get(STAND_INS)
    if isinstance(known, list):
        kinds -= Counter(kind for kind in known if isinstance(kind, str))
    return list(kinds.elements())


def _kinds(text: str) -> tuple[str, ...]:
    from tunewright.pii import find_pii  # compiling its patterns takes long

    return tuple(span.kind for span in find_pii(text))


_cached_kinds = lru_cache(maxsize=512)(_kinds)
"""The same for texts that many rows share: system prompts and labels."""


def template_tokens(example: Example) -> list[str]:
    return [token for message in example.messages for token in _TEMPLATE_TOKENS.findall(message.content)]


def language(example: Example) -> tuple[str, ...]:
    """The language of the last request, where it is clear. Not a fault by itself; the rows are compared later."""
    code = language_of(example.request)
    return (code,) if code else ()


def damage(example: Example) -> list[str]:
    """The kinds of damage: characters that were read in another encoding, or lost."""
    kinds = []
    for message in example.messages:
        if not message.content.isascii():
            if mojibake(message.content) is not None:
                kinds.append("misread UTF-8")
            elif lost_characters(message.content):
                kinds.append("lost characters")
    return kinds


def without_template_tokens(text: str) -> str:
    while (less := _TEMPLATE_TOKENS.sub("", text)) != text:
        text = less  # the text around a token may form another one
    return text


class _Lengths:
    """Finds rows that are too long, by the token counts of training."""

    def __init__(self, job: Job, limit: Limit):
        self._task, self._limit = job.task, limit
        self._template = ChatTemplate(limit.template) if limit.template is not None else None
        # A byte is at most one token. The template's tokens and the prompt add to each row's tokens.
        self._spare = limit.max_length
        if job.task and self._template:
            self._spare -= sum(len(m.content.encode()) + _OVERHEAD for m in job.task.prompt(""))
        self._last: tuple[Example | None, tuple[tuple[str, ...], tuple[str, ...]]] = (None, ((), ()))

    def of(self, example: Example) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(kinds where the answer makes the row too long, kinds where the prompt alone does)."""
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
        if template is None:  # an encoder does not read the answer
            chunks = [example.request]
            if self._task:
                task = self._task.within(self._limit.max_length - tokenizer.frame)
                chunks = task.chunks(example.request, token_counter(tokenizer))
            read = max(len(tokenizer.encode_framed(chunk)) for chunk in chunks)
            return read - 1, read  # a text of exactly the allowed length fits
        if not self._task:
            prompt_messages, whole = example.messages[:-1], example.messages
            return len(template.encode_prompt(prompt_messages, tokenizer)), len(template.encode(whole, tokenizer).ids)
        counts = []
        for training_example in self._training_examples(self._task, example):
            prompt_messages = self._task.prompt(training_example.request)
            whole = [*prompt_messages, self._task.written(training_example.answer)]
            prompt_ids = template.encode_prompt(prompt_messages, tokenizer)
            counts.append((len(template.encode(whole, tokenizer).ids), len(prompt_ids)))
        most, prompt = max(counts)
        return prompt, most

    def _training_examples(self, task: Task, example: Example) -> list[Example]:
        try:
            return task.training_examples(example, token_counter(_tokenizer(self._limit.folder)))
        except ValueError:  # the answer is no record, which is another finding
            return [example]


_OVERHEAD = 64
"""Most tokens that a template puts around a message; a default system prompt counts as one more message."""


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> TextTokenizer:
    return TextTokenizer(folder)
