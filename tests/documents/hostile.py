"""Hostile documents: small ones that take much time or memory, and ones that no engine would write."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

TEXT = b"BT /F 10 Tf 50 700 Td (hello there) Tj ET\n"


def raw_pdf(contents: bytes, forms: Sequence[bytes] = (), filters: bytes = b"") -> bytes:
    """A PDF of one page. Its contents may draw /X, the first form. Each form may draw /X, the next one."""
    font = b"/Font << /F 5 0 R >>"
    stream = b"<< %s /Length %d >>\nstream\n%s\nendstream"
    page = b"/Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< %s /Resources << %s /XObject << /X 6 0 R >> >> >>" % (page, font),
        stream % (filters, len(contents), contents),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, form in enumerate(forms, 7):
        kind = b"/Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << %s /XObject << /X %d 0 R >> >>"
        objects.append(stream % (kind % (font, number), len(form), form))
    numbered = (b"%d 0 obj\n%s\nendobj\n" % (number, content) for number, content in enumerate(objects, 1))
    return b"%PDF-1.7\n" + b"".join(numbered) + b"trailer << /Root 1 0 R >>\n%%EOF"


def nested_forms(levels: int = 10) -> bytes:
    """A text that is drawn 10 ** levels times, in 3 kB."""
    return raw_pdf(b"/X Do", [b"/X Do " * 10] * levels + [TEXT])


def flate_bomb(texts: int = 2_000_000) -> bytes:
    """A page of many texts, packed to a 300th of their size."""
    return raw_pdf(zlib.compress(TEXT * texts), filters=b"/Filter /FlateDecode")


def encoded_words(count: int = 100_000) -> bytes:
    """A mail whose subject is many encoded words."""
    return b"From: a@b.example\nSubject:" + b"\n =?utf-8?q?x=C3=A9?=" * count + b"\n\nhello there\n"


def nested_parts(depth: int = 900, lines: int = 300_000) -> bytes:
    """A mail of parts within each other, with some lines in the innermost."""
    heads = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(depth))
    return b"Subject: x\n" + heads + b"\n" + b"hello there\n" * lines


def long_parameters(count: int = 500_000) -> bytes:
    """A mail whose type has many parameters."""
    return b"Subject: x\nContent-Type: text/plain" + b";a=b" * count + b"\n\nhello there\n"


def nested_hocr(depth: int = 200, words: int = 20_000) -> bytes:
    """Pages within each other, around words within words."""
    page, word = "<div class='ocr_page'>", "<span class='ocrx_word' title='bbox 0 0 9 9'>a"
    return f"<html><body>{page * depth}{(word * 20 + '</span>' * 20) * (words // 20)}</body></html>".encode()


def hyphens(count: int = 100_000, length: int = 200) -> bytes:
    """ALTO with a word that has many hyphens, and long ones."""
    word = '<String CONTENT="a" HPOS="0" VPOS="0" WIDTH="9" HEIGHT="9"/>'
    hyphen = f'<HYP CONTENT="{"-" * length}"/>'
    return f"<alto><Layout><Page>{word}{hyphen * count}</Page></Layout></alto>".encode()


def slow_words(count: int = 350_000) -> bytes:
    """Words that take some seconds to lay out."""
    return b"[" + b",".join([b'{"text": "a", "box": [0, 0, 9, 9]}'] * count) + b"]"


def far_boxes() -> list[bytes]:
    """Words with boxes that no page has, or with edges too close to divide by their distance."""
    edges = [
        [1e308, -1e308, 1e308, 1e308],
        [-1e308, 0, 1e308, 9],
        [0, 0, 9, 1e308],
        [0, -1e308, 9, 1e308],
        [0, 0, 9, 10**400],
        [0, 0, 9, float("inf")],
        [0, 0, float("nan"), 9],
        [0, 0, 0, 5e-324],
        [0, 0, 5e-324, 5e-324],
        [1e308, 1e308, -1e308, -1e308],
        [9, 9, 0, 0],
        [0, 0, 0, 0],
    ]
    documents = [
        [{"text": "one", "box": box}, {"text": "two", "box": box}, {"text": "three", "box": [0, 0, 9, 9]}]
        for box in edges
    ]
    angles = [1e308, 10**400, float("inf"), float("nan"), 5e-324]
    words = [{"content": "one", "polygon": [0, 0, 9, 0, 9, 9, 0, 9]}]
    pages = [{"analyzeResult": {"pages": [{"angle": angle, "words": words}]}} for angle in angles]
    return [json.dumps(data).encode() for data in (*documents, *pages)]
