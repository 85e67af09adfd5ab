"""Readings: functions from a piece of a text to a record's form, such as one case, plain numbers, or ISO dates.

A reading depends on the piece alone, and for words in one case on the spelling of training's records, so that serving
reads back what training aligned. Some dates and amounts are ambiguous (03/04/2024, 1.234), and only the text
around them tells which is meant. So each meaning is its own reading, and the model tells readings apart as it tells
fields apart.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

from tunewright.tasks.normal import ACCENTS, as_in_records, in_any_form, normalised

TEXT = "text"
"""The reading that returns the piece unchanged, except for white space."""
SPELT = "spelt"
"""The reading that writes a piece in capitals, or in small letters, as records spell it."""
Spelling = Mapping[str, str]
"""The words of a field that records don't write with one capital in front: in small letters, and as spelt."""
_MONTHS = (
    "jan",
    "feb fév fev",
    "mar mär mrz",
    "apr avr abr",
    "may mai mag mei",
    "jun juin giu",
    "jul juil lug",
    "aug aoû aou ago",
    "sep set",
    "oct okt ott out",
    "nov",
    "dec dez déc dic",
)
"""The beginnings of the names of months in English, German, French, Italian, Spanish, Portuguese and Dutch."""
_LONGER = {"juin": 6, "juil": 7}
_NAME = rf"(?:[^\W\d_][{ACCENTS}]*+){{3,10}}"
"""The name of a month, decomposed or not."""
_DAY = r"\d{1,2}"
_YEAR = r"(?:\d{4}|\d{2})"
_DATE = re.compile(
    rf"(?<!\d)(?:(?:\d{{4}}|{_DAY})[./ -]{_DAY}[./ -](?:{_YEAR})"
    rf"|{_DAY}(?:st|nd|rd|th)?\.?[ -]?{_NAME}\.?,?[ -]?{_YEAR}"
    rf"|{_NAME}\.? {_DAY}(?:st|nd|rd|th)?,? ?{_YEAR})(?!\d)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\d.,])-?\d(?:[\d.,'’\u00a0\u202f ]*\d)?(?!\d)")
_CODE = re.compile(r"\w+(?:[-./:#&'’,]\w+)*")
_BLANK = re.compile(r"\s+")
_START = re.compile(r"(?<!\d[-.,'’/])(?:(?<!\w)-?\w|(?<=[^\W\d])\d)")
"""Where a number, a date or a code may begin: not within another."""
_FRONT = re.compile(r"(?:^|(?<=[-./&(+])|(?<=^[^\W\d]['’]))[^\W\d]")
_LONGEST = 64
_CENTURY = 2000


def _words(piece: str) -> str:
    return " ".join(piece.split())


def _lines(piece: str) -> str:
    """Lines joined by commas."""
    lines = (line.strip().rstrip(",").rstrip() for line in piece.splitlines())
    return _words(", ".join(line for line in lines if line))


def _point(piece: str) -> str | None:
    """1,234.50 as 1234.50."""
    return _plain(piece, r"\d{1,3}(?:[,'’ ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", "")


def _comma(piece: str) -> str | None:
    """1.234,50 as 1234.50."""
    return _plain(piece, r"\d{1,3}(?:[.'’ ]\d{3})+(?:,\d+)?|\d+(?:,\d+)?", ",")


def _plain(piece: str, form: str, decimal: str) -> str | None:
    bare = _words(piece.strip("$€£¥% \n\t"))
    sign, bare = ("-", bare[1:]) if bare.startswith("-") else ("", bare)
    if not re.fullmatch(form, bare):
        return None
    if decimal:
        return sign + re.sub(r"[.'’ ]", "", bare).replace(decimal, ".")
    return sign + re.sub(r"[,'’ ]", "", bare)


def _dated(order: str) -> Callable[[str], str | None]:
    def read(piece: str) -> str | None:
        parts = re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", piece.casefold()))
        if len(parts) != 3:
            return None
        named = [n for n, part in enumerate(parts) if not part.isdigit()]
        if order == "month-named":
            if len(named) != 1 or named[0] == 2:
                return None
            month = _month(parts.pop(named[0]))
            first, second = parts
            return _iso(first, month, second) if len(first) <= 2 else _iso(second, month, first)
        if named:
            return None
        at = dict(zip(order, parts, strict=True))
        if (len(at["y"]) == 4) != (len(parts[0]) == 4 or len(parts[2]) == 4):
            return None
        return _iso(at["d"], int(at["m"]), at["y"]) if len(at["m"]) <= 2 else None

    return read


def _month(word: str) -> int | None:
    if number := next((number for begin, number in _LONGER.items() if word.startswith(begin)), None):
        return number
    return next((n for n, begins in enumerate(_MONTHS, 1) if word.startswith(tuple(begins.split()))), None)


def _iso(day: str, month: int | None, year: str) -> str | None:
    if month is None or len(year) not in (2, 4) or len(day) > 2:
        return None
    try:
        return date(int(year) + (_CENTURY if len(year) == 2 else 0), month, int(day)).isoformat()
    except ValueError:
        return None


_READINGS: dict[str, Callable[[str], str | None]] = {
    TEXT: _words,
    "lines": _lines,
    "lower": lambda piece: _words(piece).lower(),
    "upper": lambda piece: _words(piece).upper(),
    "title": lambda piece: _words(piece).title(),
    "point": _point,
    "comma": _comma,
    "ymd": _dated("ymd"),
    "dmy": _dated("dmy"),
    "mdy": _dated("mdy"),
    "month-named": _dated("month-named"),
}
_OF_LETTERS = (TEXT, "lines", "lower", "upper", "title", SPELT)
_OF_NUMBERS = ("point", "comma")
DATES = ("ymd", "dmy", "mdy", "month-named")
"""The readings of dates."""
NAMES = (*_OF_LETTERS, *_OF_NUMBERS, *DATES)
"""All readings, the plainest first. Bundles store the names."""


def read(name: str, piece: str, spelling: Spelling) -> str | None:
    """What a reading makes of a piece of a text; None if it can't read it.

    Args:
        piece: in any of Unicode's forms; it is read in NFC.
        spelling: the field's.
    """
    piece = normalised("NFC", piece)
    return _spelt(piece, spelling) if name == SPELT else _READINGS[name](piece)


def _spelt(piece: str, spelling: Spelling) -> str:
    words = _words(piece)
    if not is_in_one_case(words):
        return words
    return " ".join(spelling.get(word.lower(), _with_capitals(word)) for word in words.split())


def _with_capitals(word: str) -> str:
    """A word with a capital in front and behind each point, hyphen or slash in it: Smith-Jones, O'Neil, Children's."""
    return _FRONT.sub(lambda front: front[0].upper(), word.lower())


def is_in_one_case(text: str) -> bool:
    """Whether a text has no small letters, or no capitals. ß has no capital in common use."""
    letters = [letter for letter in text if letter != "ß"]
    return not any(map(str.islower, letters)) or not any(map(str.isupper, letters))


def spelling_of(values: Iterable[str]) -> dict[str, str]:
    """The spelling of a field's words: where records disagree, the commonest one. A word of one record is left out,
    because it says nothing about others."""
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    for value in values:
        for word in value.split():
            spelt[word.lower()][word] += 1
    commonest = {word: max(ways, key=lambda way: (ways[way], way)) for word, ways in spelt.items() if ways.total() > 1}
    return {word: way for word, way in sorted(commonest.items()) if way != _with_capitals(word)}


def shaped(text: str) -> list[tuple[int, int]]:
    """The pieces of a text, of at most `_LONGEST` characters, that may be a number, a date, or a code such as F-8795/B.

    Numbers and dates may hold white space, so what ends before it is a piece too.
    """
    found: dict[tuple[int, int], None] = {}
    for start in (match.start() for match in _START.finditer(text)):
        for form in (_NUMBER, _DATE, _CODE):
            if match := form.match(text, start, start + _LONGEST):
                ends = [start + blank.start() for blank in _BLANK.finditer(match[0])]
                found |= dict.fromkeys((start, end) for end in (match.end(), *ends))
    return list(found)


def pieces(value: str, text: str, spelling: Spelling) -> Iterator[tuple[int, int, str]]:
    """The pieces of a text that a value may come from: (first character, the one after the last, a reading that gives
    the value).

    Args:
        value: the record's value as text.
        spelling: the field's.
    """
    yield from _of_letters(value, text, spelling)
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        yield from _matching(value, text, _NUMBER, _OF_NUMBERS, _same_number)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        yield from _matching(value, text, _DATE, DATES, str.__eq__)


def _of_letters(value: str, text: str, spelling: Spelling) -> Iterator[tuple[int, int, str]]:
    words = as_in_records(value).split()
    between = [r",?[^\S\n]*+\n\s*+|\s++" if word.endswith(",") else r"\s++" for word in words[:-1]]
    parts = [in_any_form(word.rstrip(",")) + (",?" if word.endswith(",") else "") for word in words[:-1]]
    pattern = "".join(f"{part}(?:{gap})" for part, gap in zip(parts, between, strict=True)) + in_any_form(words[-1])
    for match in re.finditer(pattern, text, re.IGNORECASE):
        for name in _OF_LETTERS:
            if read(name, match[0], spelling) == " ".join(words):
                yield match.start(), match.end(), name


def _matching(
    value: str, text: str, form: re.Pattern[str], names: tuple[str, ...], same: Callable[[str, str], bool]
) -> Iterator[tuple[int, int, str]]:
    for match in form.finditer(text):
        for name in names:
            reading = read(name, match[0], {})
            if reading is not None and same(reading, value):
                yield match.start(), match.end(), name


def _same_number(one: str, other: str) -> bool:
    return one == other or ("." not in other and float(one) == float(other))
