"""The formats of OCR engines, read as words with places: hOCR, ALTO, Tesseract's TSV, Azure's JSON, a plain list."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.limits import DOCUMENT_FAR
from tunewright.documents.layout import Word, lay_out
from tunewright.documents.markup import html_root, xml_root

TSV_HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
_TSV_WORD = "5"
_BBOX = re.compile(r"\bbbox\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)")
_HOCR_WORDS = (("ocrx_word", "ocr_word"), ("ocr_line", "ocrx_line"))
"""HTML classes of words, and of lines for engines that give no words."""

Pages = list[list[Word]]


def text_of_hocr(name: str, text: str) -> str:
    """The text of hOCR, as Tesseract, OCRopus and Kraken write it (http://kba.github.io/hocr-spec/1.2/)."""
    root = html_root(name, text)
    pages: Pages = []
    for page in _of_class(root, ("ocr_page",)) if root is not None else ():
        elements = next(filter(None, (list(_of_class(page, classes)) for classes in _HOCR_WORDS)), [])
        pages.append([_hocr_word(name, element) for element in elements])
    return lay_out(pages)


def text_of_alto(name: str, text: str) -> str:
    """The text of ALTO XML, versions 2 to 4 (https://www.loc.gov/standards/alto/)."""
    root = xml_root(name, text)
    if root.tag.rpartition("}")[2] != "alto":
        raise UserError("This XML is neither ALTO nor hOCR.", where=name, fix="Run the OCR again, with ALTO as output.")
    pages: Pages = []
    for page in root.iter("{*}Page"):
        words: list[tuple[list[str], list[float]]] = []
        for element in page.iter("{*}String", "{*}HYP"):
            content = element.get("CONTENT", "")
            if not element.tag.endswith("HYP"):
                words.append(([content], _numbers(name, [element.get(key) for key in _ALTO_BOX])))
            elif words:
                words[-1][0].append(content)
        pages.append(
            [Word("".join(texts), left, top, left + wide, top + high) for texts, (left, top, wide, high) in words]
        )
    return lay_out(pages)


_ALTO_BOX = ("HPOS", "VPOS", "WIDTH", "HEIGHT")


def text_of_tsv(name: str, text: str) -> str:
    """The text of the table that `tesseract page.png out tsv` writes."""
    pages: dict[str, list[Word]] = {}
    # Not splitlines, which also splits at characters within a word, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split("\t", 11)
        if len(fields) < 12 or fields[0] != _TSV_WORD:
            continue
        left, top, wide, high = _numbers(f"{name}:{number}", fields[6:10])
        pages.setdefault(fields[1], []).append(Word(fields[11], left, top, left + wide, top + high))
    return lay_out(pages.values())


def text_of_json(name: str, text: str) -> str:
    """The text of JSON from Azure AI Document Intelligence, or of a list of words.

    The list is `[{"text": "Total", "box": [left, top, right, bottom]}, …]`. A box may also have the eight coordinates
    of its corners, clockwise from the top left. `page` numbers the pages.

    Raises:
        UserError: the text is not JSON, or has neither form.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg}, line {error.lineno}"
        else:
            reason = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise UserError(f"The JSON can't be read: {reason}.", where=name, fix="Run the OCR again.") from None
    result = data.get("analyzeResult", data) if isinstance(data, dict) else data
    if isinstance(result, dict) and isinstance(result.get("pages"), list):
        return lay_out([_azure_page(name, page) for page in result["pages"]])
    if isinstance(result, list):
        pages: dict[str, list[Word]] = {}
        for word in result:
            entry = _object(name, word)
            pages.setdefault(str(entry.get("page", 1)), []).append(_word(name, entry.get("text"), entry.get("box")))
        return lay_out(pages.values())
    raise UserError(
        "This JSON is no document.",
        where=name,
        why="It is no list of words, and has no analyzeResult.pages, as Azure writes it.",
        fix='Write words as [{"text": "Total", "box": [left, top, right, bottom]}, …].',
    )


def _azure_page(name: str, page: Any) -> list[Word]:
    """The words of a page in the JSON of API version 2022-08-31 and later: `words` have `content` and `polygon`, and
    `angle` is the page's slope."""
    page = _object(name, page)
    words = page.get("words") or []
    angle = page.get("angle") or 0.0
    turn = _turner(angle) if isinstance(angle, (int, float)) and 0 < abs(angle) <= DOCUMENT_FAR else None
    return [
        _word(name, entry.get("content"), entry.get("polygon"), turn)
        for entry in (_object(name, word) for word in _list(name, words))
    ]


_Turn = Callable[[float, float], tuple[float, float]]


def _turner(angle: float) -> _Turn:
    """A function that turns points by some degrees counterclockwise, so that text at that angle lies straight."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return lambda x, y: (x * cosine + y * sine, y * cosine - x * sine)


def _word(name: str, text: Any, box: Any, turn: _Turn | None = None) -> Word:
    """A word from its four edges or from the eight coordinates of its corners. The SDK writes corners as objects with x
    and y."""
    if not isinstance(text, str):
        raise _unplaced(name)
    if isinstance(box, list) and box and isinstance(box[0], dict):
        box = [corner.get(axis) for corner in box if isinstance(corner, dict) for axis in "xy"]
    numbers = _numbers(name, box if isinstance(box, list) else [])
    if len(numbers) == 4:
        left, top, right, bottom = numbers
        numbers = [left, top, right, top, right, bottom, left, bottom]
    if len(numbers) != 8:
        raise _unplaced(name)
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    if turn:
        corners = [turn(x, y) for x, y in corners]
    across = [x for x, _ in corners]
    (_, a), (_, b), (_, c), (_, d) = corners
    # The edges of a word that lies askew are the means of their ends: a box around the word would touch other lines.
    return Word(text, min(across), (a + b) / 2, max(across), (c + d) / 2)


def _hocr_word(name: str, element: Any) -> Word:
    text = "".join(element.itertext())
    match = _BBOX.search(element.get("title", ""))
    left, top, right, bottom = _numbers(name, match.groups() if match else ())
    return Word(text, left, top, right, bottom)


def _of_class(root: Any, classes: Sequence[str]) -> Iterator[Any]:
    """The outermost elements of some classes. Each element is visited once, however deep they are nested."""
    from lxml.etree import iterwalk

    walk = iterwalk(root, events=("start",), tag="*")
    for _, element in walk:
        if not set(classes).isdisjoint(element.get("class", "").split()):
            walk.skip_subtree()
            yield element


def _numbers(name: str, values: Sequence[Any]) -> list[float]:
    """At least four coordinates as numbers that a page can have.

    Raises:
        UserError: they are not.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        raise _unplaced(name) from None
    if len(numbers) < 4 or not all(abs(number) <= DOCUMENT_FAR for number in numbers):
        raise _unplaced(name)
    return numbers


def _unplaced(name: str) -> UserError:
    return UserError(
        "A word has no text or no place on a page: four numbers for its edges, or eight for its corners.",
        where=name,
        fix="Run the OCR again, with the places of words in its output.",
    )


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"The JSON must have an object here, not {type(value).__name__}.", where=name, fix="Run the OCR again."
        )
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(
            f"The JSON must have a list here, not {type(value).__name__}.", where=name, fix="Run the OCR again."
        )
    return value
