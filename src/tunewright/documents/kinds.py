"""Finding a document's kind and reading its text. The parsers may take any time and memory; `pool` limits them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.documents import ocr
from tunewright.documents.decoding import decoded
from tunewright.documents.mail import text_of_mail
from tunewright.documents.markup import text_of_html
from tunewright.documents.pdf import text_of_pdf

SUFFIXES = (".pdf", ".eml", ".hocr", ".html", ".htm", ".xml", ".alto", ".tsv", ".json", ".txt", ".md")
"""Suffixes of files that are documents, in lower case."""

_PLAIN = (".txt", ".md")
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"GIF8", b"RIFF")
_HEAD = 4096
_MAIL = re.compile(
    r"(?:(?:[\w-]++:|[ \t]|From )[^\n]*+\n)*?(?:from|received|return-path|mime-version|subject):", re.IGNORECASE
)
_CONTROL = [chr(code) for code in (*range(0x09), *range(0x0E, 0x20), 0x7F)]
_NO_CONTROL = dict.fromkeys(map(ord, _CONTROL))

_Reader = Callable[[str, str], str]


def text_of(name: str, content: bytes) -> str:
    """As `tunewright.documents.text_of`, in this process and without limits."""
    reader, text = _opened(name, content)
    return _tidied(reader(), name) if reader else _plain(text, name)


def plain_text_of(name: str, content: bytes) -> str | None:
    """The text of a document that needs no parser, in linear time and memory; None: it needs one.

    Raises:
        UserError: its kind can't be read, or it holds no text.
    """
    reader, text = _opened(name, content)
    return None if reader else _plain(text, name)


def _opened(name: str, content: bytes) -> tuple[Callable[[], str] | None, str]:
    """(the document's parser, None for plain text; the document's text, empty for a PDF)."""
    suffix = Path(name).suffix.lower()
    _refuse_foreign(name, content)
    if b"%PDF-" in content[:1024] or (suffix == ".pdf" and content):
        return partial(text_of_pdf, name, content), ""
    text = decoded(content)
    if suffix == ".eml" or (suffix not in SUFFIXES and _MAIL.match(text[:_HEAD])):
        return partial(text_of_mail, name, content), text
    reader = None if suffix in _PLAIN else _reader_of(text[:_HEAD].lstrip(), suffix)
    return reader and partial(reader, name, text), text


def _refuse_foreign(name: str, content: bytes) -> None:
    if content.startswith(_PICTURES):
        stem = shlex.quote(Path(name).stem)
        raise UserError(
            "This is a picture.",
            where=name,
            fix=f"Type: tesseract {shlex.quote(name)} {stem} hocr  and name {stem}.hocr instead.",
        )
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(
            "This is an Office file or an archive.",
            where=name,
            fix=f"Type: soffice --convert-to pdf {shlex.quote(name)}  (or save a message of Outlook as .eml) and name "
            "that instead.",
        )


def _reader_of(head: str, suffix: str) -> _Reader | None:
    """The parser of a text; None: it is plain text."""
    if head.startswith(ocr.TSV_HEADER):
        return ocr.text_of_tsv
    if suffix == ".json" or (head.startswith("{") and '"analyzeResult"' in head):
        return ocr.text_of_json
    if head.startswith("<"):
        if "ocr_page" in head or "ocr-system" in head or suffix == ".hocr":
            return ocr.text_of_hocr
        if "<alto" in head or suffix in (".alto", ".xml"):
            return ocr.text_of_alto
        if suffix in (".html", ".htm") or re.match(r"<(!doctype )?html", head, re.I):
            return text_of_html
    return None


def _plain(text: str, name: str) -> str:
    # Counted character by character: a list of the text's characters would be eight times as large as the text.
    if sum(map(text.count, _CONTROL)) > 3 + len(text) / 100:
        raise UserError("This file is no text and no known kind of document.", where=name, fix="Export it as PDF.")
    return _tidied(text, name)


def _tidied(text: str, name: str) -> str:
    """The text with `\\n` at line ends, without spaces before them, and without control characters.

    Raises:
        UserError: nothing is left.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").translate(_NO_CONTROL).split("\n")
    tidied = "\n".join(line.rstrip() for line in lines).strip("\n")
    if not tidied.strip():
        raise UserError("The document holds no text.", where=name, fix="Leave it out, or export it again.")
    return tidied
