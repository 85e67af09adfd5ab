"""The tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from tests.conftest import TOKENIZER
from tests.fixtures.encoders import FAMILIES, write_tokenizer
from tunewright.models.tokenizer import TextTokenizer, _ids, _twin

TEXTS = ("Where is my parcel? 1234 é中 <|im_end|><|im_start|> [SEP] [MASK]  two  blanks", "", "\u0130stanbul\n\n\tx")


def with_tokens(tokenizer: Any) -> Any:
    """Tokens beyond the vocabulary, such as fine-tunes add: plain, with blanks around them, special."""
    tokenizer.add_tokens([AddedToken("<case>", lstrip=True, rstrip=True, normalized=False), "parcel?"])
    tokenizer.add_special_tokens(["<|ours|>"])
    tokenizer.add_tokens(["<plain>"])
    return tokenizer


def own(_: Path) -> Any:
    return Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))


def of_family(name: str) -> Callable[[Path], Any]:
    def read(tmp_path: Path) -> Any:
        write_tokenizer(tmp_path / name, FAMILIES[name].special)
        return Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))

    return read


def with_a_gap(_: Path) -> Any:
    """One whose file has a number that the vocabulary does not reach."""
    definition = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))
    last = definition["added_tokens"][-1]
    definition["added_tokens"].append({**last, "id": 10**6, "content": "<|far|>"})
    return Tokenizer.from_str(json.dumps(definition))


@pytest.mark.parametrize(
    "read", [own, with_a_gap, of_family("bert"), of_family("roberta")], ids=["decoder", "gap", "bert", "roberta"]
)
@pytest.mark.parametrize("more", [False, True])
def test_both_tokenizers_are_the_same(read: Callable[[Path], Any], more: bool, tmp_path: Path) -> None:
    """What `to_str` writes is all of a tokenizer, and a copy from it is what the library itself offers."""
    tokenizer = read(tmp_path)
    if more:
        tokenizer = with_tokens(tokenizer)
    twin, copy = _twin(tokenizer), Tokenizer.from_str(tokenizer.to_str())
    assert json.loads(twin.to_str()) == json.loads(copy.to_str())
    for setting in (False, True):
        twin.encode_special_tokens = copy.encode_special_tokens = setting
        for text in (*TEXTS, "<case> one <plain><|ours|> parcel? <|far|>"):
            assert twin.encode(text).ids == copy.encode(text).ids
    assert tokenizer.encode_special_tokens is False, "a setting of the twin's own"


def test_marks_in_a_text_are_letters_and_in_a_template_tokens() -> None:
    tokenizer = TextTokenizer(TOKENIZER)
    marks = [added for added in tokenizer._tokenizer.get_added_tokens_decoder().values() if added.special]
    mark = random.Random(0).choice(marks).content
    assert len(tokenizer.encode_text(mark)) == 1
    assert len(tokenizer.encode_verbatim(mark)) > 1


def metaspace(_: Path) -> Any:
    """As Llama's first tokenizers: a blank is put before a text, but not after a control token."""
    tokenizer = own(_)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement="Ġ", prepend_scheme="first"), tokenizer.pre_tokenizer]
    )
    return tokenizer


def prepending(_: Path) -> Any:
    tokenizer = own(_)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("x"), normalizers.NFC()])
    return tokenizer


@pytest.mark.parametrize(
    "read",
    [own, with_a_gap, metaspace, prepending, lambda _: with_tokens(own(_)), of_family("roberta")],
    ids=["decoder", "gap", "metaspace", "prepend", "more", "roberta"],
)
def test_a_prompt_in_parts_has_the_tokens_of_the_whole(read: Callable[[Path], Any], tmp_path: Path) -> None:
    read(tmp_path).save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(tmp_path)
    draw = random.Random(0)
    marks = [added.content for added in tokenizer._tokenizer.get_added_tokens_decoder().values()]
    pieces = [*marks, *TEXTS, " ", "\n", "  ", "é", "e\u0301", "\u0301", "x" * 300, "one two " * 60, "<", "|>", ">"]
    for _ in range(300):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        assert tokenizer.encode_text(text) == _ids(tokenizer._tokenizer, text), repr(text)
    if read is own:
        hits = tokenizer._part.cache_info().hits
        assert hits > 0
        tokenizer.encode_text("one two " * 60).append(7)
        assert tokenizer.encode_text("one two " * 60)[-1] != 7, "what is kept is not what is handed out"


@pytest.mark.parametrize(
    "more",
    [
        AddedToken("<|wide|>", lstrip=True, special=True, normalized=False),
        AddedToken("<|low|>", special=True, normalized=True),
        AddedToken("a<|im_end", special=False, normalized=False),
    ],
    ids=["takes blanks", "normalised", "overlaps"],
)
def test_a_tokenizer_whose_controls_depend_on_their_neighbours_reads_a_prompt_whole(
    more: AddedToken, tmp_path: Path
) -> None:
    tokenizer = own(tmp_path)
    (tokenizer.add_special_tokens if more.special else tokenizer.add_tokens)([more])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert TextTokenizer(tmp_path)._part is None
