"""UTF-8 that was read as Latin-1 or Windows-1252 ("cafÃ©", "donâ€™t"), and characters that were lost on the way.

A pattern finds candidates: a character that stands for a leading byte of UTF-8, followed by one that stands for a
continuation byte. Proper texts have such pairs too (`CAFÉ—BAR`), so ftfy (Apache-2.0) decides. It knows the pairs that
no language writes, and decodes the whole text or none of it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

_LOST = ("\ufffd", "ï¿½")  # the replacement character, and its UTF-8 read as Latin-1
# The bytes 80 to BF in Latin-1, and 80 to 9F in Windows-1252.
_CONTINUATION = "\x80-\xbf" + bytes(set(range(0x80, 0xA0)) - {0x81, 0x8D, 0x8F, 0x90, 0x9D}).decode("cp1252")
_SUSPECT = re.compile(f"[\xc2-\xf4][{_CONTINUATION}]")


def mojibake(text: str) -> str | None:
    """`text` as it was before its UTF-8 was read as Latin-1 or Windows-1252; None where it shows no such damage.

    Also None where right characters stand beside wrong ones, as in a text about them ("Ã© instead of é"), and where
    characters are lost.
    """
    if text.isascii() or not _SUSPECT.search(text) or lost_characters(text):
        return None
    from ftfy import fix_encoding

    repaired = fix_encoding(text, _whole_text_only())
    if "™" not in text:
        repaired = repaired.replace("â„¢", "™")  # the one common character that ftfy leaves as it is
    # Decoding turns two characters or more into one; a text of the same length got another repair.
    return repaired if len(repaired) < len(text) else None


def lost_characters(text: str) -> bool:
    """Whether `text` has replacement characters (U+FFFD), whose originals can't be restored."""
    return any(sign in text for sign in _LOST)


@cache
def _whole_text_only() -> TextFixerConfig:
    """ftfy's settings without the steps that repair parts of a text, guess, or change anything but misread UTF-8."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False, fix_c1_controls=False)
