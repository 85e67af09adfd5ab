"""Bytes as text: byte order marks, UTF-8, and other encodings."""

from __future__ import annotations

from codecs import lookup

BOM = b"\xef\xbb\xbf"
_WIDE = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NO_ASCII = ("utf-16", "utf-32")
"""Name prefixes of encodings whose bytes may also be valid UTF-8 with another meaning."""


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, if a mark or zeros beside ASCII in the first bytes show it; else None."""
    marked = next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)
    if marked or len(head) < 4:
        return marked
    # UTF-16 without a mark, with an ASCII character first.
    return {(False, True): "UTF-16LE", (True, False): "UTF-16BE"}.get((head[0] == 0, head[1] == 0))


def decoded(content: bytes, declared: str | None = None) -> str:
    """The text of bytes in any encoding; never fails.

    UTF-8 is tried before the declared encoding: text in another encoding is hardly ever valid UTF-8, and declarations
    are often wrong. If neither fits, it is read as Windows-1252, which holds Latin-1.

    Args:
        declared: the encoding that a header names; it may be unknown or wrong.
    """
    wide = wide_encoding(content)
    if wide:
        return content.decode(wide, "replace").removeprefix("\ufeff")
    for encoding in _encodings(content, declared):
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except (ValueError, LookupError):  # some codecs, such as base64, don't give text
            continue
    return content.decode("windows-1252", "replace")


def _encodings(content: bytes, declared: str | None) -> list[str]:
    try:
        named = lookup(declared or "").name
    except (LookupError, ValueError):
        return ["utf-8"]
    # Every text in a seven-bit encoding, such as ISO-2022-JP, is valid UTF-8 with another meaning.
    declared_first = named.startswith(_NO_ASCII) or content.isascii()
    return [named, "utf-8"] if declared_first else ["utf-8", named]
