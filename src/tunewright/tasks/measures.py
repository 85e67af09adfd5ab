"""Scores of an answer, as counts that add up over examples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

from tunewright.tasks.normal import normalised
from tunewright.tasks.spans.readings import read

FIELD, LABEL = "field ", "label "
"""Prefixes of the metrics of a single field, and of a single label."""
SINGLE = (FIELD, LABEL)


class Ratio(NamedTuple):
    """One example's share of a metric. Over many examples, the metric is the sum of the parts over the sum of the
    wholes.

    For accuracy, the whole is one an example. For the F1 of fields, 2 TP / (2 TP + FP + FN), it depends on the number
    of fields.
    """

    part: float
    whole: float

    @property
    def score(self) -> float:
        """The score of this example alone, 0 to 1; also 1 if the right answer and the given one are both empty."""
        return self.part / self.whole if self.whole else 1.0


def wilson_limits(share: Any, rows: Any, z: float) -> tuple[Any, Any]:
    """The ends of Wilson's (1927) score interval of a share.

    At an effective number of rows, with Student's t in the place of z, this is Korn and Graubard's (1998) correction of
    the number by (z / t)^2, because the formula has z and rows only as z^2 / rows.

    Args:
        share, rows: numbers, or arrays of one shape.
        z: standard errors from the share to an end; where it is infinite, the interval is 0 to 1.
    """
    import numpy as np

    if np.isinf(z):
        return np.zeros_like(share), np.ones_like(share)
    more = z**2 / rows
    middle, reach = share + more / 2, np.sqrt(more * share * (1 - share) + more**2 / 4)
    return np.maximum((middle - reach) / (1 + more), 0.0), np.minimum((middle + reach) / (1 + more), 1.0)


Leaf = tuple[str, str]
"""(the path of a value in a record, without list positions; the value as text)."""


def leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    """The values of a record. `null` is not a value: it means that the field was not found."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    elif value is not None and value != "":
        yield path, value if isinstance(value, str) else repr(value).lower() if isinstance(value, bool) else str(value)


def value_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """(path as in `leaves`, first character, the one after the last) of each value in a record's JSON.

    Args:
        text: JSON without spaces between its parts.
    """
    yield from _spans(text, 0, "")


def _spans(text: str, at: int, path: str) -> Generator[tuple[str, int, int], None, int]:
    """The spans of the value that begins at a place. Returns where it ends."""
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


def f1(gold: Counter[Any], given: Counter[Any], *, is_read: bool = True) -> Ratio:
    """F1 of a multiset against the right one.

    Args:
        is_read: whether it comes from an answer. If it doesn't, such as of a reply that was cut, `given` is empty, and
            that is wrong even if the right multiset is empty, too.
    """
    return Ratio(2 * (gold & given).total(), max(gold.total() + given.total(), int(not is_read)))


def at(path: str, values: Counter[Leaf]) -> Counter[Leaf]:
    """The values at a path."""
    return Counter({leaf: count for leaf, count in values.items() if leaf[0] == path})


def tokens(text: str) -> Counter[str]:
    """The words and numbers of a text as a multiset, ignoring case."""
    return Counter(re.findall(r"\w+", text.casefold()))


def is_in(value: str, text: str) -> bool:
    """Whether a value may come from a text: its letters and digits stand there in a row. A number stands there as a
    number, and not within another; its sign does not count. For an ISO date the numbers of its parts are enough, and
    for the month a name."""
    if _NUMBER.fullmatch(value):
        return _has_number(normalised("NFKC", value), normalised("NFKC", text))
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
    return False


_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SOLID = re.compile(r"\d+(?:[.,'’]\d+)*")
_SPACED = re.compile(r"(?<!\d)\d{1,3}(?: \d{3})+(?:[.,]\d+)?(?!\d)")
_SIGNS = str.maketrans("", "", ".,'’ ")
_CODE = range(5, 65)
"""How many digits a number may have that is a code or a telephone's number, which signs and spaces part anywhere."""


def _has_number(value: str, text: str) -> bool:
    """Whether a number stands in a text in NFKC. What is no number in any notation, such as 18.03.2024, stands for the
    numbers in it."""
    whole, part = wanted = _digits(value)
    for piece in (*_SOLID.findall(text), *_SPACED.findall(text)):
        if whole + part not in piece.translate(_SIGNS):  # most pieces, in a tenth of the time
            continue
        if wanted in (_numbers(piece) or set(map(_digits, re.findall(r"\d+", piece)))):
            return True
    if part or len(whole) not in _CODE:
        return False
    parted = re.compile(rf"(?<!\d)0*{'[-./ ]?'.join(whole)}(?!\d)")
    return any(not _numbers(match[0]) for match in parted.finditer(text))


def _numbers(piece: str) -> set[tuple[str, str]]:
    """What a piece of a text is as a number, with a point and with a comma before the decimals; empty if it is none."""
    return {_digits(number) for name in ("point", "comma") if (number := read(name, piece, {})) is not None}


def _digits(number: str) -> tuple[str, str]:
    """The digits of a number before and behind its point, without zeros that change nothing."""
    whole, _, part = number.lstrip("-").partition(".")
    return whole.lstrip("0"), part.rstrip("0")


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
    """The letters and digits of a text, case-folded."""
    return "".join(sign for sign in normalised("NFKC", text).casefold() if sign.isalnum())
