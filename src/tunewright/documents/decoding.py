"""Bytes as text: byte order marks, UTF-8, and what the world writes instead."""

from __future__ import annotations

from codecs import lookup

BOM = b"\xef\xbb\xbf"
_WIDE = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NO_ASCII = ("utf-16", "utf-32")
"""What begins the names of encodings whose bytes can't be told from UTF-8 by trying."""


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 where the first bytes of a text show it, by their mark or by zeros beside ASCII; else None."""
    marked = next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)
    if marked or len(head) < 4:
        return marked
    # Text whose first character is ASCII, in UTF-16 without a mark.
    return {(False, True): "UTF-16LE", (True, False): "UTF-16BE"}.get((head[0] == 0, head[1] == 0))


def decoded(content: bytes, declared: str | None = None) -> str:
    """A text, whatever it was written in; never fails.

    UTF-8 comes before what is declared: text in another encoding is hardly ever valid UTF-8, and declarations are often
    wrong. Where neither fits, it is Windows-1252, which holds Latin-1.

    Args:
        declared: the encoding a header names; it may be unknown or wrong.
    """
    wide = wide_encoding(content)
    if wide:
        return content.decode(wide, "replace").removeprefix("\ufeff")
    for encoding in _encodings(content, declared):
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except (ValueError, LookupError):  # some codecs, such as base64, are none of text
            continue
    return content.decode("windows-1252", "replace")


def _encodings(content: bytes, declared: str | None) -> list[str]:
    try:
        named = lookup(declared or "").name
    except (LookupError, ValueError):
        return ["utf-8"]
    # Of the encodings in seven bits, such as ISO-2022-JP, all texts are valid UTF-8, and mean something else.
    first = named.startswith(_NO_ASCII) or content.isascii()
    return [named, "utf-8"] if first else ["utf-8", named]
