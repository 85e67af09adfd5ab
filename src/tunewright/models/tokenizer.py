"""The tokenizer, read from `tokenizer.json` by the `tokenizers` library alone, in training and in serving alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


class Framed(list[int]):
    """Token ids of a text as an encoder reads it, with the text.

    Args:
        offsets: for each token the first character that it stands for and the one behind its last.
    """

    def __init__(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], text: str):
        super().__init__(ids)
        self.offsets, self.text = list(offsets), text


class TextTokenizer:
    """Text to ids; nothing is added around, unless a method says so. See `tunewright.models.chat.Tokenizer`."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # The switch belongs to a tokenizer, not to a call, and serving encodes from several threads: so there are two.
        self._verbatim = Tokenizer.from_str(self._tokenizer.to_str())
        self._verbatim.encode_special_tokens = True
        written = (added.content for added in self._tokenizer.get_added_tokens_decoder().values() if added.special)
        longest_first = sorted(written, key=len, reverse=True)
        self.controls = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode_text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_framed(self, text: str) -> list[int]:
        """As an encoder reads it: between the tokenizer's own first and last token."""
        return list(self._verbatim.encode(text).ids)

    def framed(self, text: str) -> Framed:
        """As `encode_framed`, with what each token stands for."""
        encoding = self._verbatim.encode(text)
        return Framed(encoding.ids, encoding.offsets, text)

    @property
    def frame(self) -> int:
        """Tokens that an encoder reads around a text."""
        return len(self.encode_framed(""))

    @property
    def size(self) -> int:
        """Number of tokens that it knows."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids, without control tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def control_tokens(self) -> list[int]:
        """The tokens that are no text, such as the ends of turns."""
        return [token for token, added in self._tokenizer.get_added_tokens_decoder().items() if added.special]

    def encode_verbatim(self, text: str) -> list[int]:
        return list(self._verbatim.encode(text, add_special_tokens=False).ids)
