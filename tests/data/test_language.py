from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PUBLIC, REPOSITORY
from tunewright.data.language import READ, WORDS, language_of

SENTENCES = json.loads(Path(__file__).with_name("foreign_sentences.json").read_text(encoding="utf-8"))
UNCLEAR = [
    "",
    "   ",
    "ok thx",
    "thanks",
    "lol ok thx bye",
    "asap pls",
    "Refund",
    "hola",
    "danke",
    "no no no no no",
    "12345 4567 88 99 12",
    "+49 170 1234567, +1 415 555 0132",
    "a8f3-44bd-99c0-aaaa-bbbb-cccc",
    "e2e4 e7e5 Nf3 Nc6 Bb5 a6",
    "SKU-4432 / XL / RAL 9010",
    "iPhone 13 Pro Max 256GB",
    "jane.doe@example.com, john@example.org, bob@example.net",
    "https://example.com/foo/bar?x=1&y=abc https://www.example.org/index.html",
    "def foo(x): return x + 1",
    "for (int i = 0; i < n; i++) { sum += a[i]; }",
    '{"id": 3, "name": "foo", "tags": ["a", "b"]}',
    "S M L XL XXL",
    "John Smith, Mary Jones, Peter Miller",
    "\ud800 abc def ghi jkl",
    "\x00\x01\x02",
    "😀 😀 😀 😀 😀 😀",
    "你好",
    "ありがとう",
    "Netflix Spotify Amazon Prime Video",
]
ALMOST = {"id": "ms"}  # Indonesian and Malay differ in a few words
FOREIGN_NAMES = [
    "Please deliver it to Příční 1429, Höfðagata 39 or Via dei Condotti",
    "My name is Erlendur Hafliðason from Keflavík and where is my order",
    "add La Vida Es Un Carnaval to my playlist",
]


@pytest.mark.parametrize("language", sorted(SENTENCES["B"]))
def test_foreign_sentences_are_recognised(language: str) -> None:
    long_enough = [
        s for part in SENTENCES.values() for s in part.get(language, []) if len(s.split()) >= WORDS or not s.isascii()
    ]
    languages = [language_of(sentence) for sentence in long_enough]
    assert set(languages) <= {language, None, ALMOST.get(language)}
    assert languages.count(language) >= 0.9 * len(languages) - 1


@pytest.mark.parametrize("text", UNCLEAR)
def test_short_texts_and_texts_without_a_language_give_none(text: str) -> None:
    assert language_of(text) is None


@pytest.mark.parametrize("text", FOREIGN_NAMES)
def test_names_and_titles_do_not_make_a_text_foreign(text: str) -> None:
    assert language_of(text) in ("en", None)


def test_a_text_in_capitals_is_recognised() -> None:
    assert language_of("WO IST MEINE BESTELLUNG SEIT GESTERN GEBLIEBEN") == "de"


def test_only_the_beginning_of_a_long_text_counts() -> None:
    german = "Ich warte seit drei Wochen auf meine Bestellung und niemand antwortet mir auf meine vielen Nachrichten. "
    assert len(german) > READ
    assert language_of(german + "Where is my order? " * 50) == "de"
    started = time.perf_counter()
    for _ in range(200):
        language_of(german * 2_000)
    assert time.perf_counter() - started < 1


ENGLISH = (
    PUBLIC / "banking77.jsonl",
    PUBLIC / "clinc150_oos.jsonl",
    *sorted((REPOSITORY / "examples" / "tickets" / "data").glob("*.jsonl")),
)


def test_at_most_one_english_text_in_a_thousand_is_called_foreign() -> None:
    """`bench/language.py` asks the same of whole data sets."""
    texts = [json.loads(line)["text"] for path in ENGLISH for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(texts) > 2_500
    languages = [language_of(text) for text in texts]
    assert len(languages) - languages.count("en") - languages.count(None) <= len(languages) / 1000
    assert languages.count("en") > 0.8 * len(languages)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_two_letter_code_or_none(text: str) -> None:
    code = language_of(text)
    assert code is None or (len(code) == 2 and code.islower())
    assert language_of(text) == code
