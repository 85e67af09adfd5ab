"""Personal data that teachers do not read: stand-ins in the requests, and the values back in the answers."""

from __future__ import annotations

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core.artifacts import write_private
from tunewright.core.errors import UserError
from tunewright.labelling.requests import Unlabelled
from tunewright.pii import Pseudonymiser, Replacement
from tunewright.pii.forms import NAME_WORD
from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, OneOf, SomeOf, Unfit
from tunewright.tasks.measures import bare, is_in, leaves

KEY = "stand-ins.key"
"""The file in `labels` whose key repeats the stand-ins, so that paid answers are found again."""
_ATTEMPTS = 8
_LEAST = 4
"""Letters and digits from which on a value is known again in another form."""


@dataclass(frozen=True)
class Hidden:
    """A request as teachers read it. Its repr omits all texts, so that no log shows them."""

    text: str = field(repr=False)
    pairs: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """(stand-in, value), the longest stand-ins first; without those that stand for two values."""
    stand_ins: frozenset[str] = field(default=frozenset(), repr=False)
    """All of them."""

    def shown(self, text: str) -> str:
        """A text with the values in place of their stand-ins."""
        if not self.pairs:
            return text
        values = dict(self.pairs)
        anyone = "|".join(re.escape(stand_in) for stand_in, _ in self.pairs)
        return re.sub(rf"(?<!\w)(?:{anyone})(?!\w)", lambda match: values[match[0]], text)

    def is_left_in(self, value: str, request: str) -> bool:
        """Whether a stand-in is still in a value, in whatever form: in capitals, a number without its spaces, a date
        written otherwise."""
        return any(_is_of(stand_in, value, request) for stand_in in self.stand_ins)


def _is_of(stand_in: str, value: str, request: str) -> bool:
    if stand_in.isalpha():
        words = {word.removesuffix("s") for word in re.findall(r"[^\W\d_]+", value.casefold())}
        return stand_in.casefold().removesuffix("s") in words
    form, given = bare(stand_in), bare(value)
    if len(form) >= _LEAST and form in given and form not in bare(request):
        return True
    has_digit = any(map(str.isdigit, given))
    # A part of a stand-in's digits counts, too, though it is no number of its own: the last four of a card's.
    in_stand_in, in_request = (given in bare(text) or is_in(value, text) for text in (stand_in, request))
    return len(given) >= _LEAST and has_digit and in_stand_in and not in_request


class StandIns:
    """Puts stand-ins into requests. The same key gives the same ones.

    Args:
        key: at least 16 random bytes; None: requests stay as they are.
    """

    def __init__(self, key: bytes | None):
        self._key, self._hidden = key, dict[str, Hidden]()
        self._pseudonymisers: list[Pseudonymiser] = []  # of each attempt, because each puts all names in order

    def hidden(self, row: Unlabelled) -> Hidden:
        """The request as teachers read it."""
        if self._key is None:
            return Hidden(row.text)
        if row.id not in self._hidden:
            self._hidden[row.id] = _hidden(row.text, self._attempts(self._key))
        return self._hidden[row.id]

    def answer(self, task: Task, row: Unlabelled, answer: str) -> str | None:
        """A teacher's answer, in canonical form, with the values of the request.

        None: a stand-in is still in it, in another form or without a way back, so what it stands for can't be told.
        """
        hidden = self.hidden(row)
        if not hidden.stand_ins or isinstance(task.constraint, OneOf | SomeOf):
            return answer
        if not isinstance(task.constraint, JsonRecord):
            text = hidden.shown(answer)
            return None if hidden.is_left_in(text, row.text) else text
        record = _mapped(json.loads(answer), hidden.shown)
        if any(hidden.is_left_in(value, row.text) for _, value in leaves(record)):
            return None
        try:
            return task.canonical(json.dumps(record, ensure_ascii=False))
        except Unfit:
            return None

    def _attempts(self, key: bytes) -> Iterator[Pseudonymiser]:
        for attempt in range(_ATTEMPTS):
            if attempt == len(self._pseudonymisers):
                self._pseudonymisers.append(Pseudonymiser(key + bytes([attempt])))
            yield self._pseudonymisers[attempt]


def key_of(folder: Path, *, make: bool) -> bytes:
    """The project's key for stand-ins.

    Args:
        make: write one where there is none, readable by its owner only; otherwise it is drawn and forgotten.

    Raises:
        UserError: the file holds something that is no key.
    """
    file = folder / KEY
    # A version before this one, when its disk was full, left an empty file.
    if file.exists() and (known := file.read_bytes()):
        return _checked(known, file)
    key = secrets.token_bytes(32)
    if make:
        write_private(file, key)
    return key


def _checked(key: bytes, file: Path) -> bytes:
    try:
        Pseudonymiser(key)
    except UserError as error:
        raise UserError(
            error.what,
            where=file,
            why=error.why,
            fix="Put the file back from a copy. Or delete it: then teachers are asked again, and paid again, about "
            "requests with personal data.",
        ) from None
    return key


def _hidden(text: str, attempts: Iterable[Pseudonymiser]) -> Hidden:
    for pseudonymiser in attempts:
        hidden, found = pseudonymiser.replaced(text)
        values = defaultdict[str, set[str]](set)
        for stand_in, value in (pair for each in found for pair in _pairs(each)):
            values[stand_in].add(value)
        # Names are drawn from few, so two of a text may get the same one. Then there is no way back.
        pairs = {stand_in: of.pop() for stand_in, of in values.items() if len(of) == 1}
        if len(pairs) == len(values):
            break
    longest = sorted(pairs.items(), key=lambda pair: -len(pair[0]))
    return Hidden(hidden, tuple(longest), frozenset(values))


def _pairs(replaced: Replacement) -> Sequence[tuple[str, str]]:
    """(stand-in, value) of a replacement, and of each word of a name: an answer may have the family name alone."""
    whole = [(replaced.stand_in, replaced.value)]
    if replaced.kind != "PERSON":
        return whole
    # In Anne'Marie'Claire, Anne'Marie is a word, which one without an apostrophe may stand for: then only what lies
    # between the words tells where they end.
    between = map(re.escape, NAME_WORD.split(replaced.value))
    found = re.fullmatch(f"({NAME_WORD.pattern})".join(between), replaced.stand_in)
    if found is None:
        return whole
    words = zip(found.groups(), NAME_WORD.findall(replaced.value), strict=True)
    return [*whole, *(pair for pair in words if len(pair[0]) > 1 and not pair[0].islower())]


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _mapped(part, change) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part, change) for part in value]
    return change(value) if isinstance(value, str) else value
