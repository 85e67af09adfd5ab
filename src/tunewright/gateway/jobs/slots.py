"""The fixed and the variable parts of a job's prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunewright.gateway.jobs.prompts import Prompt
from tunewright.gateway.jobs.words import Triples, words_in


@dataclass(frozen=True)
class Part:
    """A run of letters of a message."""

    message: int
    """The message's number in the prompt."""
    text: str
    is_fixed: bool


def parts_of(prompt: Prompt, fixed: Triples) -> list[Part]:
    """A prompt, cut into what all prompts of the job share and what varies.

    White space belongs to the part before it.

    Args:
        fixed: the job's triples, as `tunewright.gateway.jobs.words.fixed_triples_of` gives those of a prompt.
    """
    return [
        Part(number, text, is_fixed)
        for number, (role, message) in enumerate(prompt.messages)
        for text, is_fixed in _runs(message, words_in(role, message, fixed))
    ]


def variable_text(parts: Sequence[Part]) -> str:
    """All that varies, in order: the input of the job. A line for each part, a paragraph for each message."""
    messages: dict[int, list[str]] = {}
    for part in parts:
        if not part.is_fixed and (text := part.text.strip()):
            messages.setdefault(part.message, []).append(text)
    return "\n\n".join("\n".join(texts) for texts in messages.values())


def pattern_of(prompt: Prompt, parts: Sequence[Part]) -> str:
    """How fixed and variable parts follow each other in a prompt, such as `system:f user:fv`."""
    marks = [f"{role}:" for role, _ in prompt.messages]
    for part in parts:
        marks[part.message] += "f" if part.is_fixed else "v"
    return " ".join(marks)


def outline(parts: Sequence[Part]) -> str:
    """The prompt with its variable parts as `{…}`, a paragraph a message."""
    messages: dict[int, list[str]] = {}
    for part in parts:
        written = messages.setdefault(part.message, [])
        if part.is_fixed:
            written.append(part.text)
        elif not written or written[-1] != _SLOT:
            written.append(_SLOT)
    return "\n\n".join("".join(written).strip() for written in messages.values())


_SLOT = "{…} "


def _runs(text: str, fixed: Sequence[tuple[int, bool]]) -> Iterator[tuple[str, bool]]:
    """(a run of letters, whether it is fixed).

    Args:
        fixed: for each word, where it begins and whether it is fixed.
    """
    start, kind = 0, fixed[0][1] if fixed else False
    for place, is_fixed in fixed:
        if is_fixed != kind:
            yield text[start:place], kind
            start, kind = place, is_fixed
    if start < len(text):
        yield text[start:], kind
