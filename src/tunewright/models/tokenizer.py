"""The tokenizer. Training and serving both load it from `tokenizer.json` with the `tokenizers` library alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunewright.core.limits import LETTERS_A_TOKEN
from tunewright.models.files import loading, read_bytes
from tunewright.models.line_ends import with_line_ends
from tunewright.models.tokenizer_check import check_tokenizer


class TextPrompt(list[int]):
    """The token ids of a model's input, and the request, or the chunk of one, that it was made of."""

    def __init__(self, ids: Sequence[int], text: str):
        super().__init__(ids)
        self.text = text


class Framed(TextPrompt):
    """The token ids of a text with an encoder's frame around it.

    Args:
        offsets: for each token, (its first character, the character after its last).
    """

    def __init__(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], text: str):
        super().__init__(ids, text)
        self.offsets = list(offsets)


_KEEPING = frozenset({"NFC", "Prepend", "Replace"})
"""Normalizers that, in known tokenizers, hardly make a text shorter."""
_COMPOSED = 3
"""Characters that composition (NFC) may turn into one."""
_LONG, _TOO_LONG, _KEPT_PARTS = 256, 1 << 16, 16
"""Characters from and up to which the tokens of a part of a prompt are kept, and how many parts."""
_OPEN = 8
"""Tokens after which incomplete bytes will not become a character any more: a character has at most four bytes."""
_HALF = "\ufffd"
"""The decoder's character for bytes that are not a character, or not yet."""


class IncrementalDecoder:
    """Decodes tokens as they come, without decoding all earlier ones again.

    It decodes a token together with those of the last piece of text, because a tokenizer may write a token differently
    at the beginning of a text.

    Args:
        decode: token ids -> their text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self._ids: list[int] = []
        self._before: int = 0
        """How many tokens of `_ids` are only context for the others."""
        self._settled = 0

    def add(self, token: int) -> tuple[str, int]:
        """Add a token. Returns (the text that this token made certain, the characters up to the token's end). An
        incomplete character counts as one."""
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
    """Converts between text and token ids. It adds no tokens around a text unless a method says so. See
    `tunewright.models.chat.Tokenizer`.

    Args:
        folder: has `tokenizer.json`.
        line_ends: whether the end of a line is a token of its own, also where the file says white space; see
            `with_line_ends`.
    """

    def __init__(self, folder: Path, *, line_ends: bool = False):
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        content = read_bytes(file)
        check_tokenizer(content, file)
        with loading(file, "The tokenizer"):
            self._tokenizer = Tokenizer.from_buffer(with_line_ends(content) if line_ends else content)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            # `encode_special_tokens` is a setting of the tokenizer, not of a call, and serving encodes from several
            # threads. So there are two tokenizers.
            self._verbatim = _twin(self._tokenizer)
        with loading(file, "The tokenizer"):  # the frame may name tokens that don't exist
            self._verbatim.encode("")
        self._verbatim.encode_special_tokens = True
        special = (added.content for added in self._tokenizer.get_added_tokens_decoder().values() if added.special)
        longest_first = sorted(special, key=len, reverse=True)
        self.controls = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        alone = _controls_stand_alone(self._tokenizer, self.controls)
        self._part = lru_cache(_KEPT_PARTS)(partial(_ids, self._tokenizer)) if alone else None

    def encode_text(self, text: str) -> list[int]:
        if self._part is None or len(text) < _LONG:
            return _ids(self._tokenizer, text)
        # Part by part, each from a control token to the next. Prompts share the long one that lists the labels.
        ids: list[int] = []
        for start, end in pairwise([0, *(match.start() for match in self.controls.finditer(text)), len(text)]):
            part = text[start:end]
            ids += self._part(part) if _LONG <= len(part) < _TOO_LONG else _ids(self._tokenizer, part)
        return ids

    def encode_framed(self, text: str) -> list[int]:
        """A text with an encoder's frame: the tokenizer's own first and last token around it."""
        return list(_encoded(self._verbatim, text).ids)

    def framed(self, text: str) -> Framed:
        """Like `encode_framed`, with the characters of each token."""
        encoding = _encoded(self._verbatim, text)
        return Framed(encoding.ids, encoding.offsets, text)

    @property
    def frame(self) -> int:
        """Tokens of the frame around a text."""
        return len(self.encode_framed(""))

    def most_letters(self, tokens: int) -> int:
        """A text with more characters than this certainly has more than so many tokens. This needs no encoding; see
        `LETTERS_A_TOKEN`."""
        return tokens * self._longest

    @cached_property
    def _longest(self) -> int:
        """Characters that a token may stand for."""
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
        """Size of the vocabulary, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def as_json(self) -> str:
        """This tokenizer as the text of a `tokenizer.json`. The file itself may be another one by now."""
        return str(self._tokenizer.to_str())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids, without control tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def control_tokens(self) -> list[int]:
        """The tokens that are not text, such as the ends of turns."""
        return [token for token, added in self._tokenizer.get_added_tokens_decoder().items() if added.special]

    def encode_verbatim(self, text: str) -> list[int]:
        return _ids(self._verbatim, text)


def _twin(tokenizer: Any) -> Any:
    """Another tokenizer of the same parts, with settings of its own. It shares the vocabulary, because reading that
    again takes as long as the first time."""
    from tokenizers import Tokenizer

    twin = Tokenizer(tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (known := getattr(tokenizer, part)) is not None:
            setattr(twin, part, known)
    added = tokenizer.get_added_tokens_decoder()
    twin.add_tokens([added[number] for number in sorted(added)])  # at once: each call builds the matcher anew
    return twin


def _controls_stand_alone(tokenizer: Any, known: re.Pattern[str]) -> bool:
    """Whether a text can be cut before each control token, and its parts encoded one by one: no control token takes
    spaces around it or is read in a normalized text, and no other added token looks behind its end or may overlap
    one.

    Args:
        known: finds the control tokens.
    """
    added = list(tokenizer.get_added_tokens_decoder().values())
    controls, others = [each for each in added if each.special], [each for each in added if not each.special]
    if any(each.lstrip or each.rstrip or each.single_word or each.normalized for each in controls):
        return False
    if any(each.rstrip or each.single_word for each in others):
        return False
    names = [each.content for each in controls]
    # Two texts can share characters if one begins as the other ends, or lies within it.
    begins = {name[:count] for name in names for count in range(1, len(name) + 1)}
    ends = {name[-count:] for name in names for count in range(1, len(name) + 1)}
    text = "\0".join(names)
    return not any(
        known.search(other)
        or other in text
        or any(other[-count:] in begins or other[:count] in ends for count in range(1, len(other) + 1))
        for other in (each.content for each in others)
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text alone."""
    return list(_encoded(tokenizer, text, add_special_tokens=False).ids)


def _encoded(tokenizer: Any, text: str, *, add_special_tokens: bool = True) -> Any:
    """Encode a text.

    Raises:
        RuntimeError: the library gave up at a pattern. It panics then, and its panic is not an `Exception`.
    """
    try:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"the tokenizer gave up: {error}") from None
