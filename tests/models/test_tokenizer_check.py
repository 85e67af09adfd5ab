"""A tokenizer that would hang a server, or fill its memory, is refused before it reads anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOKENIZER
from tunewright.core.errors import UserError
from tunewright.models import tokenizer_check
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.tokenizer_check import CUTS, KNOWN_PATTERNS

BASE: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {"a": 0, "b": 1, "aa": 2},
        "merges": ["a a"],
    },
}


def split(pattern: str) -> dict[str, Any]:
    node = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": node}


def replace(content: str, times: int = 1, **pattern: str) -> dict[str, Any]:
    node = {"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content}
    return {"normalizer": {"type": "Sequence", "normalizers": [node] * times}}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a pattern with a repeated repetition": (split("(a+)+b"), "retry-limit-in-match|took more than"),
    "a pattern with two ways to the same": (split("(x|a|aa)+b"), "retry-limit-in-match|took more than"),
    "a pattern that takes the cube": (split("a*a*a*!!"), "retry-limit|did not end|took more"),
    "a pattern that takes the square": (split("q*!!"), "took more than|did not end"),
    "a pattern that is none": (split("(("), "Oniguruma"),
    "a replacement that is long": (replace("b" * 1_000_000), "took more than|became"),
    "replacements that double": (replace("aa", 28), "took more than|became"),
    "a replacement at every place": (replace("b" * 100, 1, Regex=""), "took more than|became"),
    "a decoder that makes much": (
        {"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}},
        "took more|became",
    ),
    "words of any length": (
        {
            "model": {
                "type": "WordPiece",
                "unk_token": "u",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 10**9,
                "vocab": {"u": 0, "a": 1, "##a": 2},
            }
        },
        "took more|did not end",
    ),
    "a map of characters that is none": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        "took more|Panic",
    ),
    "a cut of no length": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "Panic"),
    "a frame without its tokens": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "pair": [],
                "special_tokens": {},
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}],
            }
        },
        "can't be loaded.*Panic",
    ),
    "a token with a huge number": (
        {"model": {**BASE["model"], "vocab": {"a": 0, "b": 1, "aa": 2**32 - 1}}},
        "number 4,294,967,295",
    ),
    "a model of no type": ({"model": {}}, "model of an unknown type"),
    "parts in each other": ({"normalizer": {"type": "Sequence", "normalizers": [{}]}}, "a part that can't be read"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, changes: dict[str, Any]) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(BASE | changes), "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_tokenizer_is_refused(attack: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_check, "PROBE_CPU_SECONDS", 3)
    changes, said = HOSTILE[attack]
    with pytest.raises(UserError, match=said) as refused:
        TextTokenizer(write(folder, changes))
    assert "\n" not in refused.value.paragraph()


@pytest.mark.slow
def test_an_unusual_tokenizer_that_ends_is_used(folder: Path) -> None:
    """It has a pattern that nobody else has, and a replacement."""
    assert TextTokenizer(write(folder, split("b+|[^b]+"))).encode_text("aab") == [2, 1]
    assert TextTokenizer(write(folder, replace("b", 2))).encode_text("aa") == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        *map(split, CUTS),
        replace("\u2581", 1, Regex=" "),
        replace("\u2581", 1, Regex=" {2,}"),
        replace("\u2581", 1, String=" "),
        {"normalizer": {"type": "Prepend", "prepend": "\u2581"}},
        {"pre_tokenizer": {"type": "Digits"}},
    ],
)
def test_the_parts_of_known_tokenizers_are_not_tried(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_check, "_tried", lambda _, unusual: pytest.fail(unusual))
    tokenizer_check.check_tokenizer(json.dumps(BASE | changes).encode(), Path("x"))
    tokenizer_check.check_tokenizer((TOKENIZER / "tokenizer.json").read_bytes(), Path("x"))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", sorted(KNOWN_PATTERNS))
def test_known_patterns_take_as_many_steps_as_a_text_has_characters(pattern: str) -> None:
    """They are let through without being tried; here they are."""
    content = json.dumps(BASE | split(pattern)).encode()
    assert tokenizer_check._tried(content, "a known pattern") == ""
