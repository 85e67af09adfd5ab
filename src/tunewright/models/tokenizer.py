"""The tokenizer, read from `tokenizer.json` by the `tokenizers` library alone, in training and in serving alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewright.core.limits import LETTERS_A_TOKEN
from tunewright.models.files import loading, read_bytes
from tunewright.models.tokenizer_check import check_tokenizer


class Framed(list[int]):
    """Token ids of a text as an encoder reads it, with the text.

    Args:
        offsets: for each token the first character that it stands for and the one behind its last.
    """

    def __init__(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], text: str):
        super().__init__(ids)
        self.offsets, self.text = list(offsets), text


_KEEPING = frozenset({"NFC", "Prepend", "Replace"})
"""Normalizers after which a text of known tokenizers is hardly shorter."""
_COMPOSED = 3
"""Letters that may become one when they are composed (NFC)."""
_OPEN = 8
"""Tokens after which bytes that are still no character will not become one: a character has at most four."""
_HALF = "\ufffd"
"""What stands for bytes that are no character, or not yet."""


class Reading:
    """The text of tokens as they come, each decoded beside a few others, not all before it again.

    A token is decoded together with those of the last piece of text: a tokenizer may write a token otherwise where it
    is the first.

    Args:
        decode: token ids -> their text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self._ids: list[int] = []
        self._before: int = 0
        """How many tokens of `_ids` only stand there so that the others are decoded as in their place."""
        self._settled = 0

    def add(self, token: int) -> tuple[str, int]:
        """(the text that is certain with this token and was not before, letters up to the token's end); the letter of a
        character that is not whole yet counts as one."""
        self._ids.append(token)
        known = len(self._decode(self._ids[: self._before])) if self._before else 0
        fresh = self._decode(self._ids)[known:]
        if fresh.endswith(_HALF) and len(self._ids) - self._before < _OPEN:
            return "", self._settled + len(fresh)
        self._settled += len(fresh)
        if fresh:
            del self._ids[: self._before]
        self._before = len(self._ids)
        return fresh, self._settled


class TextTokenizer:
    """Text to ids; nothing is added around, unless a method says so. See `tunewright.models.chat.Tokenizer`."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        content = read_bytes(file)
        check_tokenizer(content, file)
        with loading(file, "The tokenizer"):
            self._tokenizer = Tokenizer.from_buffer(content)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            # The switch belongs to a tokenizer, not to a call, and serving encodes from several threads: so there are
            # two.
            self._verbatim = Tokenizer.from_str(self._tokenizer.to_str())
        with loading(file, "The tokenizer"):  # the frame of a text may name tokens that are not there
            self._verbatim.encode("")
        self._verbatim.encode_special_tokens = True
        written = (added.content for added in self._tokenizer.get_added_tokens_decoder().values() if added.special)
        longest_first = sorted(written, key=len, reverse=True)
        self.controls = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode_text(self, text: str) -> list[int]:
        return list(_encoded(self._tokenizer, text, add_special_tokens=False).ids)

    def encode_framed(self, text: str) -> list[int]:
        """As an encoder reads it: between the tokenizer's own first and last token."""
        return list(_encoded(self._verbatim, text).ids)

    def framed(self, text: str) -> Framed:
        """As `encode_framed`, with what each token stands for."""
        encoding = _encoded(self._verbatim, text)
        return Framed(encoding.ids, encoding.offsets, text)

    @property
    def frame(self) -> int:
        """Tokens that an encoder reads around a text."""
        return len(self.encode_framed(""))

    def most_letters(self, tokens: int) -> int:
        """Letters of a text, beyond which it has more tokens, known without reading it; see `LETTERS_A_TOKEN`."""
        return tokens * self._longest

    @cached_property
    def _longest(self) -> int:
        """Letters that a token may stand for."""
        from tokenizers.models import BPE

        model, normalizer = self._tokenizer.model, self._tokenizer.normalizer
        form = json.loads(normalizer.__getstate__()) if normalizer else {"normalizers": []}
        forms = [each["type"] for each in form.get("normalizers", [form])]
        if (
            not isinstance(model, BPE)
            or (model.unk_token and not model.byte_fallback)
            or not _KEEPING.issuperset(forms)
        ):
            return LETTERS_A_TOKEN
        longest = max(len(token.encode()) for token in self._tokenizer.get_vocab(with_added_tokens=True))
        return longest * (_COMPOSED if "NFC" in forms else 1)

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
        return list(_encoded(self._verbatim, text, add_special_tokens=False).ids)


def _encoded(tokenizer: Any, text: str, *, add_special_tokens: bool = True) -> Any:
    """Raises: RuntimeError: the library gave up at a pattern; it panics then, with what is no `Exception`."""
    try:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"the tokenizer gave up: {error}") from None
