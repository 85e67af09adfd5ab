"""PDF: the text layer, laid out by the places of its characters. Filled-in form fields are included."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.core.errors import UserError
from tunewright.core.limits import DOCUMENT_FAR
from tunewright.documents.layout import Word, lay_out

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfTextPage
    from pypdfium2.raw import FS_RECTF

_HYPHENS = {0x02: "-", 0xFFFE: "-"}
"""The codes that PDFium gives for a hyphen at the end of a line."""
_TURN_SAMPLE = 500
"""Characters that are sampled to find how a page's text is turned."""


def text_of_pdf(name: str, content: bytes) -> str:
    """The text of all pages. PDFium allows one thread at a time, and a worker has one.

    Raises:
        UserError: the PDF is encrypted or broken, or has no pages or no text layer.
    """
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD

    try:
        with pypdfium2.PdfDocument(content) as document:
            document.init_forms()
            text = lay_out(_words(document, number) for number in range(len(document)))
    except pypdfium2.PdfiumError as error:
        if error.err_code == FPDF_ERR_PASSWORD:
            raise UserError(
                "The PDF is protected by a password.",
                where=name,
                fix=f"Type: qpdf --decrypt --password=… {shlex.quote(name)} open.pdf  and name open.pdf instead.",
            ) from None
        raise UserError(
            "The PDF is broken, or has no pages.",
            where=name,
            why=f"{str(error).rstrip('.')}.",
            fix=f"Type: qpdf {shlex.quote(name)} fixed.pdf  and name fixed.pdf instead, or export it again.",
        ) from None
    if not text:
        raise UserError(
            "The PDF has no text layer: its pages are pictures, or empty.",
            where=name,
            fix=f"Type: ocrmypdf {shlex.quote(name)} with-text.pdf  and name with-text.pdf instead.",
        )
    return text


def _words(document: PdfDocument, number: int) -> list[Word]:
    """The words of a page, with those of filled-in form fields."""
    from pypdfium2.raw import FS_RECTF, FPDFText_GetLooseCharBox, FPDFText_GetUnicode

    if document.formenv:
        document[number].flatten()  # the text of form fields becomes part of the page
    characters = document[number].get_textpage()
    count = characters.count_chars()
    quarters = _quarters(characters, count)
    box = FS_RECTF()
    words: list[_Characters] = []
    open_word = False
    for index in range(count):
        code = FPDFText_GetUnicode(characters, index)
        character = _HYPHENS.get(code) or chr(code)
        if not code or character.isspace() or not FPDFText_GetLooseCharBox(characters, index, box):
            open_word = False
            continue
        place = _turned(box, quarters)
        if not (open_word and words[-1].take(character, *place)):
            words.append(_Characters([character], *place))
        open_word = True
    return [word.whole() for word in words if word.is_on_page()]


@dataclass(slots=True)
class _Characters:
    """A word that grows character by character."""

    characters: list[str]
    left: float
    top: float
    right: float
    bottom: float

    def take(self, character: str, left: float, top: float, right: float, bottom: float) -> bool:
        """Add a character if it belongs to the word, and return whether it does. Its place decides, because some PDFs
        have no spaces between words."""
        height = self.bottom - self.top
        apart = max(self.left, left) - min(self.right, right)
        if apart >= height or abs(self.top + self.bottom - top - bottom) >= height:
            return False
        self.characters.append(character)
        self.left, self.top = min(self.left, left), min(self.top, top)
        self.right, self.bottom = max(self.right, right), max(self.bottom, bottom)
        return True

    def is_on_page(self) -> bool:
        """Whether its place can be on a page."""
        return all(abs(edge) <= DOCUMENT_FAR for edge in (self.left, self.top, self.right, self.bottom))

    def whole(self) -> Word:
        return Word("".join(self.characters), self.left, self.top, self.right, self.bottom)


def _quarters(characters: PdfTextPage, count: int) -> int:
    """The quarter turns, clockwise, of most of a page's text. Pages with wide tables often lie sideways."""
    from pypdfium2.raw import FPDFText_GetCharAngle

    sample = range(0, count, max(1, count // _TURN_SAMPLE))
    turns = Counter(round(FPDFText_GetCharAngle(characters, index) / (math.pi / 2)) % 4 for index in sample)
    return max(turns, key=turns.__getitem__, default=0)


def _turned(box: FS_RECTF, quarters: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a box, y downwards, after text that is turned by some quarters is set upright."""
    if quarters == 1:
        return -box.top, -box.right, -box.bottom, -box.left
    if quarters == 2:
        return -box.right, box.bottom, -box.left, box.top
    if quarters == 3:
        return box.bottom, box.left, box.top, box.right
    return box.left, -box.top, box.right, -box.bottom
