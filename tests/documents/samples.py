"""Sample documents: PDFs by reportlab, an invoice in each format."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tunewright.documents.layout import Word

Drawn = tuple[float, float, str]
"""Points from the left, points from the top, text."""

HIGH = 800.0

INVOICE: list[Drawn] = [
    (50, 50, "Vantage Cleaning Services LLC"),
    (50, 66, "Invoice F-8795-B"),
    (50, 120, "Desk lamp"),
    (300, 120, "23 x 70.29"),
    (450, 120, "1,616.67"),
    (50, 136, "Hosting, monthly"),
    (300, 136, "29 x 23.84"),
    (450, 136, "691.36"),
    (50, 160, "Total"),
    (450, 160, "2,308.03"),
]


def pdf(*pages: Iterable[Drawn], password: str | None = None, draw: Callable[[Canvas], Any] | None = None) -> bytes:
    """A PDF in 10 point Helvetica.

    Args:
        draw: draws more on the last page.
    """
    stream = io.BytesIO()
    encrypted = StandardEncryption(password, strength=128) if password else None
    canvas = Canvas(stream, pagesize=(600, HIGH), encrypt=encrypted)
    for number, page in enumerate(pages, 1):
        canvas.setFont("Helvetica", 10)
        for left, top, text in page:
            canvas.drawString(left, HIGH - top, text)
        if draw and number == len(pages):
            draw(canvas)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def words(text: str, width: float = 10, height: float = 20, leading: float = 30) -> list[Word]:
    """A typewritten page: each word at its column and line, one character `width` wide."""
    found = []
    for number, line in enumerate(text.split("\n")):
        column = 0
        for word in line.split(" "):
            if word:
                left, top = column * width, number * leading
                found.append(Word(word, left, top, left + len(word) * width, top + height))
            column += len(word) + 1
    return found


def path_without(module: str, folder: Path) -> str:
    """A PYTHONPATH that hides a library from child processes.

    Args:
        folder: gets the module that hides the library.
    """
    (folder / f"{module}.py").write_text("raise ModuleNotFoundError(name=__name__)\n", "utf-8")
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
