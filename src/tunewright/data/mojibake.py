"""UTF-8 that was read as Latin-1 or Windows-1252: "cafÃ©", "donâ€™t"; and characters that were lost on the way.

A pattern proposes: a character that stands for a leading byte of UTF-8, with one behind it that stands for a
continuation. Proper texts have such pairs too (`CAFÉ—BAR`), so ftfy (Apache-2.0) decides, which knows the pairs that no
language writes, and decodes the whole text or none of it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

_LOST = ("\ufffd", "ï¿½")  # the replacement character, and what becomes of it when its UTF-8 is read as Latin-1
# What the bytes 80 to BF are in Latin-1, and what 80 to 9F are in Windows-1252.
_CONTINUATION = "\x80-\xbf" + bytes(set(range(0x80, 0xA0)) - {0x81, 0x8D, 0x8F, 0x90, 0x9D}).decode("cp1252")
_SUSPECT = re.compile(f"[\xc2-\xf4][{_CONTINUATION}]")


def mojibake(text: str) -> str | None:
    """`text` as it was before its UTF-8 was read as Latin-1 or Windows-1252, None where it shows no such thing.

    None too where right characters stand beside the wrong ones, as in a text that speaks of them ("Ã© instead of é"),
    and where some are lost.
    """
    if text.isascii() or not _SUSPECT.search(text) or lost_characters(text):
        return None
    from ftfy import fix_encoding

    repaired = fix_encoding(text, _whole_text_only())
    if "™" not in text:
        repaired = repaired.replace("â„¢", "™")  # the one usual sign that ftfy leaves as it is
    # Two characters or more became one wherever UTF-8 was misread; what keeps its length was another repair.
    return repaired if len(repaired) < len(text) else None


def lost_characters(text: str) -> bool:
    """Whether `text` has replacement characters (U+FFFD): what stood there can't be told any more."""
    return any(sign in text for sign in _LOST)


@cache
def _whole_text_only() -> TextFixerConfig:
    """ftfy without the steps that mend parts of a text, guess, or change what isn't UTF-8 misread."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False, fix_c1_controls=False)
