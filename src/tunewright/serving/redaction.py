"""Redaction: personal data is taken out of the request log's entries before they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from tunewright.pii import Span, find_pii
from tunewright.pii.whole_words import WholeWords
from tunewright.serving.captures import CaptureRecord, Feedback

_SHORTEST = 3
"""Letters that a value must have to be looked for in the entry's other texts too."""
_NAME_PART = re.compile(r"[^\W\d_]+")
_JOINTS = "_.-"
"""Signs between the parts of a name in a user's name or an address."""
_STRING = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*+:)?')
"""A string in a JSON text; a key where a colon follows."""
_HALF_LETTER = re.compile("[\ud800-\udfff]")
"""A lone surrogate: no encoding has it, and JSON has it only as an escape."""


def redact(entry: CaptureRecord | Feedback, *, from_fixed_set: bool) -> CaptureRecord | Feedback:
    """The entry with the kind, such as [EMAIL], in place of personal data.

    A value that is found in one text is replaced in the entry's other texts too, where the words around it may not give
    it away. In an answer that is JSON, only the strings change.

    Args:
        from_fixed_set: the answer is a label, and stays as it is.
    """
    name = "request" if isinstance(entry, CaptureRecord) else "comment"
    text = getattr(entry, name)
    answer = None if from_fixed_set else entry.answer
    redaction = Redaction([text], [answer] if answer else [])
    changed = {name: redaction.plain(text)}
    if answer:
        changed["answer"] = redaction.answer(answer)
    return entry.model_copy(update=changed)


class Redaction:
    """Replaces the personal data of some texts by its kind, wherever it stands in any of them as a whole word. A
    person's name goes in the forms of a user's name too, such as `Ada_Lovelace` and `ada.lovelace`.

    Args:
        texts: texts that belong together.
        answers: further ones. Of one that is JSON, only the strings count.
    """

    def __init__(self, texts: Iterable[str], answers: Iterable[str]):
        found = ((answer, _strings(answer)) for answer in answers)
        pieces = [*texts, *(each for answer, strings in found for each in ([answer] if strings is None else strings))]
        self._found: dict[str, list[Span]] = {text: find_pii(text) for text in pieces}
        self._kinds = {span.text: span.kind for spans in self._found.values() for span in spans}
        persons = [value for value, kind in self._kinds.items() if kind == "PERSON"]
        self._kinds = dict.fromkeys((form for name in persons for form in _joined(name)), "PERSON") | self._kinds
        self._others = WholeWords(value for value in self._kinds if len(value) >= _SHORTEST)

    def plain(self, text: str) -> str:
        """A text, redacted."""
        parts, end = [], 0
        for span in self._found.get(text, ()):
            parts += [self._without_known(text[end : span.start]), f"[{span.kind}]"]
            end = span.end
        return "".join([*parts, self._without_known(text[end:])])

    def answer(self, text: str) -> str:
        """An answer, redacted; if it is JSON, it stays JSON."""
        if _strings(text) is None:
            return self.plain(text)
        return _STRING.sub(self._redacted_string, text)

    def _redacted_string(self, match: re.Match[str]) -> str:
        string, colon = match.groups()
        if colon:
            return match.group()
        value = json.loads(string)
        redacted = self.plain(value)
        if redacted == value:
            return string
        return json.dumps(redacted, ensure_ascii=bool(_HALF_LETTER.search(redacted)))

    def _without_known(self, text: str) -> str:
        longest = dict(self._others.spans(text))  # the last value that begins at a place is the longest
        parts, behind = [], 0
        for start, end in longest.items():
            if start >= behind:
                parts += [text[behind:start], f"[{self._kinds[text[start:end]]}]"]
                behind = end
        return "".join([*parts, text[behind:]])


def _joined(name: str) -> Iterator[str]:
    """The forms of a user's name that a person's name may take: all of its parts, or the first and the last, joined."""
    parts = _NAME_PART.findall(name)
    if len(parts) > 1:
        for some in (parts, [parts[0], parts[-1]]):
            for joint in _JOINTS:
                form = joint.join(some)
                yield from (form, form.lower(), form.upper())


def _strings(text: str) -> list[str] | None:
    """The string values of a JSON text, without keys, which come from the schema; None: the text is no JSON."""
    try:
        if not isinstance(json.loads(text), (dict, list)):
            return None
    except (ValueError, RecursionError):
        return None
    return [json.loads(string) for string, colon in _STRING.findall(text) if not colon]
