"""Stand-ins for personal data: a value gets the same one everywhere, in its own form, and a key repeats them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tunewright.core.errors import UserError
from tunewright.pii.finders import find_pii
from tunewright.pii.forms import CANONICAL, FORMS, Draw, StandInSource, token
from tunewright.pii.opened import opened_json
from tunewright.pii.spans import Span

_ATTEMPTS = 50


@dataclass(frozen=True)
class Replacement:
    """A value and what stands in its place. Its repr omits both, so that no log shows them."""

    kind: str
    value: str = field(repr=False)
    stand_in: str = field(repr=False)


class Pseudonymiser:
    """Replaces the spans of `find_pii` by stand-ins.

    A stand-in is drawn from HMAC-SHA256 of the value's kind and canonical form under the key. With the key the work can
    be repeated; without it nobody can test a guess. Stand-ins are not secret, but `mapping` is: keep it apart from the
    texts. A person's first name, family name and whole name agree with each other, in capitals too. Two values may get
    the same stand-in: names often (there are some 5,000), others very rarely. If a text already has a stand-in, another
    one is drawn for that text. A value that only the words beside it reveal stays in texts without these words.

    Args:
        key: at least 16 random bytes, from a secret store.

    Raises:
        UserError: the key is shorter.
    """

    def __init__(self, key: bytes):
        if len(key) < 16:
            raise UserError(
                f"A key for stand-ins needs at least 16 bytes; this one has {len(key)}.",
                why="A short key can be guessed, and with it every stand-in.",
                fix="Draw one with `python -c 'import secrets; print(secrets.token_hex(16))'` and keep it secret.",
            )
        self._source = StandInSource(key)
        self._stand_ins: dict[tuple[str, str], str] = {}
        self._mapping: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"Pseudonymiser({len(self._mapping)} values)"

    @property
    def mapping(self) -> Mapping[str, list[str]]:
        """The replaced values so far, each with its stand-ins: nearly always one."""
        return MappingProxyType(self._mapping)

    def replace(self, text: str) -> str:
        """The text with a stand-in for every span of `find_pii`."""
        return self.replaced(text)[0]

    def replaced(self, text: str) -> tuple[str, list[Replacement]]:
        """(the text with a stand-in for every span of `find_pii`, what was replaced, in order)."""
        parts, end, found = [], 0, list[Replacement]()
        spans = find_pii(text)
        is_escaped = bool(spans) and opened_json(text) is not None
        for span in spans:
            stand_in = self._stand_in(span, text)
            used = self._mapping.setdefault(span.text, [])
            if stand_in not in used:
                used.append(stand_in)
            found.append(Replacement(span.kind, span.text, stand_in))
            written = json.dumps(stand_in, ensure_ascii=False)[1:-1] if is_escaped else stand_in
            parts += [text[end : span.start], written]
            end = span.end
        return "".join([*parts, text[end:]]), found

    def _stand_in(self, span: Span, text: str) -> str:
        usual = self._stand_ins.get((span.kind, span.text))
        if usual is None:
            usual = self._stand_ins[span.kind, span.text] = self._draw(span, "")
        return self._draw(span, text) if _is_in(usual, span.kind, text) else usual

    def _draw(self, span: Span, text: str) -> str:
        """The first stand-in that is not the value, is not in the text, and does not look like another kind."""
        form, canonical = FORMS.get(span.kind, token), CANONICAL.get(span.kind, str)(span.text)
        avoid = _words(text) if span.kind == "PERSON" else ()
        for attempt in range(_ATTEMPTS):
            drawn = form(span.text, Draw(self._source, f"{span.kind}\0{attempt}\0{canonical}", avoid))
            if drawn != span.text and not _is_in(drawn, span.kind, text) and _looks_like(drawn, span.kind):
                return drawn
        return drawn

    def save_mapping(self, path: Path) -> None:
        """Write `mapping` as JSON, readable by its owner only.

        Raises:
            UserError: there is a file already.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise UserError(
                "There is a file already.",
                where=path,
                why="It may be the only way back from stand-ins to the values that they replaced.",
                fix="Move it, or name another file.",
            ) from error
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._mapping, file, indent=1)
        except OSError:  # a full disk leaves no half of the way back
            path.unlink()
            raise


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d_]+", text.casefold()))


def _is_in(stand_in: str, kind: str, text: str) -> bool:
    """Whether a text already has the stand-in, or a word of it if it is a name."""
    if kind != "PERSON":
        return stand_in in text
    names = (word for word in re.findall(r"[^\W\d_]{2,}", stand_in) if not word.islower())
    return not _words(text).isdisjoint(name.casefold() for name in names)


def _looks_like(stand_in: str, kind: str) -> bool:
    return kind == "PERSON" or all(span.kind == kind for span in find_pii(stand_in))
