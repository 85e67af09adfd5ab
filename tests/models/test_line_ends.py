"""The token for a line's end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.conftest import TOKENIZER
from tests.fixtures.encoders import FAMILIES, with_word_pieces, write_tokenizer
from tunewright.models.line_ends import with_line_ends
from tunewright.models.tokenizer import TextTokenizer

TEXT = "Cafe 7\r\n\n12.50 \nx"


def test_a_lines_end_is_a_token_with_its_place_in_the_text(tmp_path: Path) -> None:
    plain = TextTokenizer(with_word_pieces(tmp_path))
    lines = TextTokenizer(tmp_path, line_ends=True)
    assert lines.size == plain.size
    framed = lines.framed(TEXT)
    ends = [number for number, token in enumerate(framed) if token == 4]
    assert [framed.offsets[number] for number in ends] == [(7, 8), (8, 9), (15, 16)]
    assert [token for token in framed if token != 4] == plain.encode_framed(TEXT), "all else is the same"
    assert lines.decode([4]) == "\n"
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "tokenizer.json").write_text(lines.as_json(), "utf-8")
    again = TextTokenizer(saved).framed(TEXT)
    assert (list(again), again.offsets) == (list(framed), framed.offsets)
    assert list(TextTokenizer(saved, line_ends=True).framed(TEXT)) == list(framed), "it has one already"


def test_a_place_that_somebody_uses_is_left_alone(tmp_path: Path) -> None:
    file = with_word_pieces(tmp_path) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens(["[unused0]"])
    tokenizer.save(str(file))
    assert TextTokenizer(tmp_path, line_ends=True).encode_text("[unused0]\n") == [4, 5]


def test_without_an_unused_place_nothing_changes(tmp_path: Path) -> None:
    content = (with_word_pieces(tmp_path, unused=0) / "tokenizer.json").read_bytes()
    assert with_line_ends(content) == content


@pytest.mark.parametrize("family", ["bert", "roberta", "decoder"])
def test_a_tokenizer_that_reads_line_ends_anyway_stays_as_it_is(family: str, tmp_path: Path) -> None:
    if family != "decoder":
        write_tokenizer(tmp_path, FAMILIES[family].special)
    content = ((TOKENIZER if family == "decoder" else tmp_path) / "tokenizer.json").read_bytes()
    assert with_line_ends(content) == content
    assert json.loads(content)["model"]
