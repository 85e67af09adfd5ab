"""The tokenizer, read from `tokenizer.json` by the `tokenizers` library alone, in training and in serving alike."""

from __future__ import annotations

from pathlib import Path


class TextTokenizer:
    """Text with special tokens in it -> ids; nothing is added before or behind."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode_text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
