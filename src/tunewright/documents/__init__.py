"""Documents as text: the same function for training data, the command line and the server.

kind   -> by the first bytes, then by the suffix (here)
words  -> pdf.py, ocr.py (words with places), which layout.py makes look like the page
text   -> decoding.py, mail.py with thread.py, markup.py
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tunewright.documents import ocr
from tunewright.documents.decoding import decoded
from tunewright.documents.mail import text_of_mail
from tunewright.documents.markup import text_of_html
from tunewright.documents.pdf import text_of_pdf
from tunewright.errors import UserError

__all__ = ["MOST_BYTES", "SUFFIXES", "is_there", "read_document", "text_of"]

MOST_BYTES = 64 << 20
"""Bytes of a document; a model this small reads a few pages."""

SUFFIXES = (".pdf", ".eml", ".hocr", ".html", ".htm", ".xml", ".alto", ".tsv", ".json", ".txt", ".md")
"""Of files that are documents, in small letters."""

_PLAIN = (".txt", ".md")
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"GIF8", b"RIFF")
_HEAD = 4096
_MAIL = re.compile(
    r"(?:(?:[\w-]++:|[ \t]|From )[^\n]*+\n)*?(?:from|received|return-path|mime-version|subject):", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

_Reader = Callable[[str, str], str]


def is_there(path: Path) -> bool:
    """Whether there is a file, of whatever a row's column says: names that no system takes are no files."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_document(path: Path) -> str:
    """The text of a document on disk.

    Raises:
        UserError: there is no such file, it can't be opened, or as in `text_of`.
        ModuleNotFoundError: a library of the [documents] extra is missing.
    """
    if not is_there(path):
        raise UserError("There is no such document.", where=path, fix="Check the path.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(str(path))
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The document can't be read: {error.strerror}.", where=path, fix="Check the path.") from None
    return text_of(str(path), content)


def text_of(name: str, content: bytes) -> str:
    """The text of a document, as the model reads it.

    Args:
        name: its file name, which tells the kind where the first bytes don't.

    Raises:
        UserError: a kind that can't be read, a broken file, or one without text; says what to type.
        ModuleNotFoundError: a library of the [documents] extra is missing.
    """
    if len(content) > MOST_BYTES:
        raise _too_large(name)
    suffix = Path(name).suffix.lower()
    _refuse_foreign(name, content)
    if b"%PDF-" in content[:1024] or (suffix == ".pdf" and content):
        return _tidied(text_of_pdf(name, content), name)
    text = decoded(content)
    if suffix == ".eml" or (suffix not in SUFFIXES and _MAIL.match(text[:_HEAD])):
        return _tidied(text_of_mail(name, content), name)
    if reader := None if suffix in _PLAIN else _reader_of(text[:_HEAD].lstrip(), suffix):
        return _tidied(reader(name, text), name)
    if len(_CONTROL.findall(text)) > 3 + len(text) / 100:
        raise UserError("This is no text, and none of the kinds that are read.", where=name, fix="Export it as PDF.")
    return _tidied(text, name)


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
    """What reads a text that isn't plain; None where it is."""
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
            return lambda _, text: text_of_html(text)
    return None


def _tidied(text: str, name: str) -> str:
    """The text with plain line ends, without spaces at ends of lines, and without signs that are none."""
    lines = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    tidied = "\n".join(line.rstrip() for line in lines).strip("\n")
    if not tidied.strip():
        raise UserError("The document holds no text.", where=name, fix="Leave it out, or export it again.")
    return tidied


def _too_large(name: str) -> UserError:
    return UserError(
        f"The document is larger than {MOST_BYTES >> 20} MiB.", where=name, fix="Cut out the pages that matter."
    )
