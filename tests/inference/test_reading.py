"""Incremental decoding gives the same text as decoding all tokens together."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.conftest import TOKENIZER
from tests.inference.test_grammar import TOKENS, VOCABULARY
from tunewright.models.tokenizer import IncrementalDecoder, TextTokenizer


@pytest.mark.parametrize(
    "text", ["Grüße, 東京 🎉🎉 done", " leading", "a\ufffdb", "", "नमस्ते 👩‍👩‍👧‍👦", "\n\n\t x" * 20]
)
def test_a_text_comes_piece_by_piece(text: str) -> None:
    ids, decoder = TOKENS.encode_verbatim(text), IncrementalDecoder(TOKENS.decode)
    pieces, ends = zip(*map(decoder.add, ids), strict=True) if ids else ((), ())
    assert "".join(pieces) == text
    assert list(ends) == [len(TOKENS.decode(ids[: count + 1])) for count in range(len(ids))]


def test_tokens_that_are_not_text_decode_as_they_do_together() -> None:
    for seed in range(50):
        ids, decoder = random.Random(seed).choices(range(VOCABULARY), k=30), IncrementalDecoder(TOKENS.decode)
        ends = [decoder.add(token)[1] for token in ids]
        assert ends == [len(TOKENS.decode(ids[: count + 1])) for count in range(len(ids))]


def test_no_token_is_decoded_again_and_again() -> None:
    asked: list[int] = []

    def decode(ids: list[int]) -> str:
        asked.append(len(ids))
        return TOKENS.decode(ids)

    decoder = IncrementalDecoder(decode)
    bytes_alone = TOKENS.encode_verbatim("🎉")[:1]
    for token in [*TOKENS.encode_verbatim("word " * 300), *bytes_alone * 300]:
        decoder.add(token)
    assert max(asked) < 20


def test_a_text_has_no_more_letters_than_its_tokens_can_stand_for(tmp_path: Path) -> None:
    text = "#" * 80 + " " * 64
    assert TOKENS.most_letters(len(TOKENS.encode_verbatim(text))) >= len(text)
    known = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))
    nfc, strip, nfkc = {"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "NFKC"}
    for normalizer, most in (
        (nfc, 3 * TOKENS.most_letters(1)),
        ({"type": "Sequence", "normalizers": [nfc, strip]}, 100),
        (nfkc, 100),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(known | {"normalizer": normalizer}), "utf-8")
        assert TextTokenizer(tmp_path).most_letters(1) == most
