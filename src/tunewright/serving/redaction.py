"""Personal data taken out of what is kept, before it is written."""

from __future__ import annotations

import json
import re

from tunewright.pii import Span, find_pii
from tunewright.pii.whole_words import WholeWords
from tunewright.serving.captures import CaptureRecord, Feedback

_SHORTEST = 3
"""Letters of a value that is looked for in the other texts too."""
_STRING = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*+:)?')
"""A string of a JSON text; a key where a colon follows."""
_HALF_LETTER = re.compile("[\ud800-\udfff]")
"""Which no encoding has, and JSON only as an escape."""


def redact(entry: CaptureRecord | Feedback, *, chosen: bool) -> CaptureRecord | Feedback:
    """An entry in whose texts personal data is replaced by its kind, such as [EMAIL].

    What is found in one of its texts is replaced in the others too, where fewer words may give it away. Of an answer
    that is JSON only the strings are changed.

    Args:
        chosen: the answer is one of a fixed set, such as labels, and left as it is.
    """
    names = ["request"] if isinstance(entry, CaptureRecord) else ["comment"]
    texts = {name: getattr(entry, name) for name in names if getattr(entry, name)}
    if entry.answer and not chosen:
        texts["answer"] = entry.answer
    strings = _strings(texts["answer"]) if "answer" in texts else None
    pieces = [text for name, text in texts.items() if name != "answer" or strings is None] + list(strings or ())
    redacting = _Redacting(pieces)
    changed = {name: redacting(text) for name, text in texts.items()}
    if strings is not None:
        changed["answer"] = _STRING.sub(lambda match: _written(match, redacting), texts["answer"])
    return entry.model_copy(update=changed)


class _Redacting:
    """A function that replaces what was found in some texts, wherever it stands in them as a whole word."""

    def __init__(self, texts: list[str]):
        self._found: dict[str, list[Span]] = {text: find_pii(text) for text in texts}
        self._kinds = {span.text: span.kind for spans in self._found.values() for span in spans}
        self._others = WholeWords(value for value in self._kinds if len(value) >= _SHORTEST)

    def __call__(self, text: str) -> str:
        parts, end = [], 0
        for span in self._found.get(text, ()):
            parts += [self._without_known(text[end : span.start]), f"[{span.kind}]"]
            end = span.end
        return "".join([*parts, self._without_known(text[end:])])

    def _without_known(self, text: str) -> str:
        longest = dict(self._others.spans(text))  # of the values that begin at a place the last
        parts, behind = [], 0
        for start, end in longest.items():
            if start >= behind:
                parts += [text[behind:start], f"[{self._kinds[text[start:end]]}]"]
                behind = end
        return "".join([*parts, text[behind:]])


def _strings(text: str) -> list[str] | None:
    """The strings of a record in JSON but for its keys, which are the schema's; None of another text."""
    try:
        if not isinstance(json.loads(text), (dict, list)):
            return None
    except (ValueError, RecursionError):
        return None
    return [json.loads(string) for string, colon in _STRING.findall(text) if not colon]


def _written(match: re.Match[str], redacting: _Redacting) -> str:
    string, colon = match.groups()
    if colon:
        return match.group()
    said = json.loads(string)
    redacted = redacting(said)
    if redacted == said:
        return string
    return json.dumps(redacted, ensure_ascii=bool(_HALF_LETTER.search(redacted)))
