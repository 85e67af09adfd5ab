"""Scores of an answer, as counts that add up over examples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

from tunewright.tasks.normal import normalised

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


def f1(gold: Counter[Any], given: Counter[Any]) -> Ratio:
    """F1 of a multiset against the right one."""
    return Ratio(2 * (gold & given).total(), gold.total() + given.total())


def at(path: str, values: Counter[Leaf]) -> Counter[Leaf]:
    """The values at a path."""
    return Counter({leaf: count for leaf, count in values.items() if leaf[0] == path})


def tokens(text: str) -> Counter[str]:
    """The words and numbers of a text as a multiset, ignoring case."""
    return Counter(re.findall(r"\w+", text.casefold()))


def is_in(value: str, text: str) -> bool:
    """Whether a value may come from a text: its letters and digits stand there in a row. For a number or an ISO date,
    which have many forms, the digits are enough."""
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
    """The letters and digits of a text, case-folded."""
    return "".join(sign for sign in normalised("NFKC", text).casefold() if sign.isalnum())
