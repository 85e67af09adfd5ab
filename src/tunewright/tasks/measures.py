"""What an answer is worth, as counts that can be added up over examples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

from tunewright.tasks.normal import normalised

FIELD, LABEL = "field ", "label "
"""What the name of the measure of a single field, or of one of several labels, begins with."""
SINGLE = (FIELD, LABEL)


class Ratio(NamedTuple):
    """One example's part of a measure: over many, the measure is the sum of the parts over the sum of the wholes.

    So accuracy has a whole of one an example, and the F1 of fields, 2 TP / (2 TP + FP + FN), one that goes with the
    fields that are there.
    """

    part: float
    whole: float

    @property
    def score(self) -> float:
        """Of this example alone, 0 to 1; where nothing was to be found and nothing was, 1."""
        return self.part / self.whole if self.whole else 1.0


Leaf = tuple[str, str]
"""Where a value stands in a record, list positions aside, and the value as text."""


def leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    """The values of a record. `null` is none: a field without a value was not found."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    elif value is not None and value != "":
        yield path, value if isinstance(value, str) else repr(value).lower() if isinstance(value, bool) else str(value)


def value_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Where the values of a record stand in its JSON: path as in `leaves`, first character, the one behind the last.

    Args:
        text: JSON without spaces between its parts.
    """
    yield from _spans(text, 0, "")


def _spans(text: str, at: int, path: str) -> Generator[tuple[str, int, int], None, int]:
    """The spans of the value that begins at a place; returns where it ends."""
    decoder = json.JSONDecoder()
    if text[at] not in "{[":
        _, end = decoder.raw_decode(text, at)
        yield path, at, end
        return end
    is_object = text[at] == "{"
    at += 1
    while text[at] not in "}]":
        at += text[at] == ","
        inner = f"{path}[]"
        if is_object:
            name, at = decoder.raw_decode(text, at)
            inner = f"{path}.{name}" if path else name
            at += 1  # the colon
        at = yield from _spans(text, at, inner)
    return at + 1


def f1(gold: Counter[Any], found: Counter[Any]) -> Ratio:
    """F1 of a multiset against the right one."""
    return Ratio(2 * (gold & found).total(), gold.total() + found.total())


def tokens(text: str) -> Counter[str]:
    """Words and numbers, case aside, as a multiset."""
    return Counter(re.findall(r"\w+", text.casefold()))


def is_in(value: str, text: str) -> bool:
    """Whether a value can have been read in a text: its letters and digits stand there in a row, or, of a number or an
    ISO date, which are written in many ways, its digits do."""
    if bare(value) in bare(text):
        return True
    if date := re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", value):
        year, month, day = date.groups()
        numbers = set(re.findall(r"\d+", text))
        named = any(name in text.casefold() for name in _MONTHS[int(month) - 1]) if 1 <= int(month) <= 12 else False
        return (
            bool({year, year[2:]} & numbers)
            and bool({day, day.lstrip("0")} & numbers)
            and (named or bool({month, month.lstrip("0")} & numbers))
        )
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        digits = re.sub(r"\D", "", value).strip("0")
        return any(digits == re.sub(r"\D", "", number).strip("0") for number in re.findall(r"\d[\d.,' ]*", text))
    return False


_MONTHS = (
    ("jan",),
    ("feb", "fév"),
    ("mar", "mär"),
    ("apr", "avr"),
    ("may", "mai"),
    ("jun", "juin"),
    ("jul", "juil"),
    ("aug", "aoû"),
    ("sep",),
    ("oct", "okt"),
    ("nov",),
    ("dec", "dez", "déc"),
)


def bare(text: str) -> str:
    """A text's letters and digits, case aside."""
    return "".join(sign for sign in normalised("NFKC", text).casefold() if sign.isalnum())
