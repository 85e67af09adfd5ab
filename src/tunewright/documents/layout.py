"""Layout: words with their places on a page become text that looks like the page, with lines, columns and paragraphs.

PDFs and OCR results both pass here, so that a model reads a scan as it reads the PDF that was printed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

COLUMN_GAP = 1.8
"""Gap between two words, in character widths, from which they stand in different columns. Words of a sentence have a
gap of about half a width, in justified or typewritten text up to one and a half."""
PARAGRAPH_GAP = 0.8
"""Gap between two lines, in word heights, that counts as a blank line."""
MOST_SPACES = 120
"""Spaces that one gap becomes at most."""
_RUN = 10
"""Width, in word heights, that a run of words must have to show the page's slope."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its box: x grows to the right, y downwards, in one unit for the whole page (pixels, points)."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


class _Line:
    """The words of a line. Its place and height are means over its words, without very tall ones such as a table's
    rules."""

    def __init__(self, word: Word):
        self.words = [word]
        self.counted = 1
        self.middle, self.height = word.middle, word.height

    def shared(self, word: Word) -> float:
        """The vertical overlap of line and word, as a share of the lower of the two: from 0 to 1."""
        top = max(word.top, self.middle - self.height / 2)
        bottom = min(word.bottom, self.middle + self.height / 2)
        lower = min(word.height, self.height)
        return max(0.0, bottom - top) / lower if lower > 0 else 0.0

    def add(self, word: Word, tall: float) -> None:
        self.words.append(word)
        if word.height <= tall:
            self.counted += 1
            self.middle += (word.middle - self.middle) / self.counted
            self.height += (word.height - self.height) / self.counted


def lay_out(pages: Iterable[Sequence[Word]]) -> str:
    """The text of some pages, with a blank line between them.

    Words whose boxes overlap by half in height form one line, even if the page was scanned slightly askew. A word keeps
    its distance from the page's edge, in the page's usual character width, so columns stay columns. On a page mostly in
    a right-to-left script, lines begin at the right, and words stand in reading order.

    Args:
        pages: the words of each page, best in reading order: the slope is measured on words that follow each other.
    """
    return "\n\n".join(filter(None, map(_page, pages)))


def _page(words: Sequence[Word]) -> str:
    words = [replace(word, text=text) for word in words if (text := " ".join(word.text.split()))]
    if not words:
        return ""
    usual = median([word.height for word in words if word.height > 0] or [1.0])
    words = [word if word.height > 0 else replace(word, bottom=word.top + usual) for word in words]
    width = median(max(word.right - word.left, 0.0) / len(word.text) for word in words) or usual / 2 or 1.0
    directions = Counter(_direction(word.text) for word in words)
    if backward := directions["R"] > directions["L"]:
        # Mirror the page: its lines then go from left to right.
        words = [replace(word, left=-word.right, right=-word.left) for word in words]
    left, right = min(word.left for word in words), max(word.right for word in words)
    parts: list[str] = []
    above: _Line | None = None
    for line in _lines(_straightened(words, usual, right - left), usual):
        if above:
            apart = line.middle - line.height / 2 - (above.middle + above.height / 2)
            parts.append("\n\n" if apart > PARAGRAPH_GAP * usual else "\n")
        parts.append(_line_text(line.words, left, width, "L" if backward else "R"))
        above = line
    return "".join(parts)


def _straightened(words: list[Word], usual: float, breadth: float) -> list[Word]:
    """The words as on a straight page, if the page's slope would mix up its lines."""
    slope = _slope(words, usual)
    if abs(slope) * breadth < usual / 2:
        return words
    return [replace(word, top=word.top - (by := slope * word.left), bottom=word.bottom - by) for word in words]


def _slope(words: list[Word], usual: float) -> float:
    """How far lines sink per unit to the right: the median over runs of words that follow each other closely."""
    slopes: list[float] = []
    start = 0
    for number in range(1, len(words) + 1):
        if number < len(words) and _follows(words[number - 1], words[number]):
            continue
        first, last = words[start], words[number - 1]
        start = number
        across = (last.left + last.right - first.left - first.right) / 2
        if abs(across) >= _RUN * usual:
            slopes.append((last.middle - first.middle) / across)
    return median(slopes) if len(slopes) > 2 else 0.0


def _follows(one: Word, other: Word) -> bool:
    lower = min(one.height, other.height)
    beside = min(one.bottom, other.bottom) - max(one.top, other.top) >= lower / 2
    return beside and -lower < _gap(one, other) < 1.5 * lower


def _lines(words: list[Word], usual: float) -> list[_Line]:
    """The lines from top to bottom."""
    lines: list[_Line] = []
    for word in sorted(words, key=lambda word: word.middle):
        near = lines[-4:]
        best = max(near, key=lambda line: (line.shared(word), -abs(line.middle - word.middle)), default=None)
        if best and best.shared(word) >= 0.5:
            best.add(word, 2 * usual)
        else:
            lines.append(_Line(word))
    return sorted(lines, key=lambda line: line.middle)


def _line_text(words: list[Word], left: float, width: float, foreign: str) -> str:
    """A line's words in reading order, with spaces as wide as the gaps.

    Args:
        left: the page's left edge.
        width: a character's width.
        foreign: the direction ("L" or "R") that is not the page's.
    """
    parts: list[str] = []
    length = 0
    before: Word | None = None
    for run in _runs(_once(sorted(words, key=lambda word: word.left)), foreign):
        reversed_run: list[str] = []  # from the last word to the first, without the spaces before the run
        for word in run:
            place = round(min((word.left - left) / width, length + MOST_SPACES)) - length
            spaces = " " * place if before is None else _spaces(before, word, place, width)
            (reversed_run if reversed_run else parts).append(spaces)
            reversed_run.append(word.text)
            length += len(spaces) + len(word.text)
            before = word
        parts += reversed(reversed_run)
    return "".join(parts)


def _once(words: list[Word]) -> list[Word]:
    """A line's words without copies that were printed over a word to make it bold."""
    seen: list[Word] = []
    for word in words:
        if not (seen and word.text == seen[-1].text and word.left - seen[-1].left < (word.right - word.left) / 4):
            seen.append(word)
    return seen


def _spaces(before: Word, word: Word, place: int, width: float) -> str:
    """The spaces between two words.

    Args:
        place: columns from here to the second word's place.
    """
    return " " * max(2, place) if word.left - before.right >= COLUMN_GAP * width else " "


def _runs(words: list[Word], foreign: str) -> Iterator[list[Word]]:
    """The words one by one. Neighbours of the foreign direction come together, with the numbers between them."""
    number = 0
    while number < len(words):
        end = number + 1
        if _direction(words[number].text) == foreign:
            for ahead in range(end, len(words)):
                direction = _direction(words[ahead].text)
                if direction not in (foreign, ""):
                    break
                end = ahead + 1 if direction else end
        yield words[number:end]
        number = end


def _direction(text: str) -> str:
    """ "R" for right-to-left scripts, "L" for others, "" for numbers and punctuation."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next(("L" if kind == "L" else "R" for kind in kinds if kind in ("L", "R", "AL")), "")


def _gap(one: Word, other: Word) -> float:
    """The distance between two words of a line; negative if they overlap."""
    return max(one.left, other.left) - min(one.right, other.right)
