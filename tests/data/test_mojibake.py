from __future__ import annotations

import json
import random
import re
import timeit
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import PUBLIC
from tunewright.data.mojibake import lost_characters, mojibake

PARTS = json.loads(Path(__file__).with_name("foreign_sentences.json").read_text(encoding="utf-8"))
SENTENCES = [s for part in PARTS.values() for some in part.values() for s in some]
ACCENTED = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœšžÀÁÃÄÅÇÈÉÊËÍÑÓÔÕÖØÙÚÛÜ"
SIGNS = "’‘“”–—…€£°¿¡«»ºª™"
# The five bytes that Windows-1252 leaves open are read as control characters, as browsers do.
WINDOWS = {b: bytes([b]).decode("cp1252") for b in range(0x80, 0xA0) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
PROPER = [
    "SÃO PAULO",
    "NÃO",
    "IRMÃ MARIA",
    "AMANHÃ É DIA DE FESTA",
    "Ã PROCURA",
    "CAFÉ’S menu",
    "“CAFÉ”",
    "CAFÉ—BAR",
    "JOSÉ’S",
    "Nestlé™ is",
    "CRÈME BRÛLÉE™",
    "MAÑANA…",
    "ÅÄÖ – svenska",
    "HAN SA ”SÅ”",
    "«À» — «É»",
    "VIS-À–VIS",
    "½ é¼",
    "Â",
    "Ã",
    "PREÇO: 10€–20€",
    "Hà Nội, Việt Nam",
    "Łódź",
    "Привет, мир",
    "你好,世界",
    "thanks 😀",
    "naïve café",
    "20 °C",
    "£5 off",
    "I see Ã© instead of é",
    "the Â£ sign stands before every £ on the page",
    "a \x95 control",
    "í ¼í½\x95",
    "",
    "plain",
]
BROKEN = {
    "cafÃ©": "café",
    "donâ€™t": "don’t",
    "â€œhelloâ€\x9d": "“hello”",
    "it cost Â£20": "it cost £20",
    "10 â‚¬ for MÃ¼ller": "10 € for Müller",
    "SÃƒO PAULO": "SÃO PAULO",
    "Â¿DÃ³nde estÃ¡ mi pedido?": "¿Dónde está mi pedido?",
    "thanks ðŸ˜€": "thanks 😀",
    "ÐŸÑ€Ð¸Ð²ÐµÑ‚": "Привет",
    "cafÃƒÂ©": "café",
    "voilÃ  le cafÃ©": "voilà le café",
    "the Nimbusâ„¢ router": "the Nimbus™ router",
}


def misread(text: str, encoding: str) -> str:
    as_latin = text.encode().decode("latin-1")
    return as_latin if encoding == "latin-1" else as_latin.translate(WINDOWS)


@pytest.mark.parametrize("text", PROPER)
def test_proper_texts_stay(text: str) -> None:
    assert mojibake(text) is None


@pytest.mark.parametrize("text", BROKEN)
def test_broken_texts_are_repaired(text: str) -> None:
    assert mojibake(text) == BROKEN[text]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_real_sentences_come_back_and_are_left_alone_when_whole(encoding: str) -> None:
    sentences = [s for s in SENTENCES if not s.isascii()]
    assert not any(mojibake(s) for s in SENTENCES)
    missed = [s for s in sentences if mojibake(misread(s, encoding)) != s]
    assert len(missed) <= 0.01 * len(sentences), missed


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_nearly_any_words_with_accents_come_back(encoding: str) -> None:
    draw = random.Random(0)
    texts = []
    for _ in range(500):
        words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 8))) for _ in range(5)]
        place, letter = draw.randrange(5), draw.choice(ACCENTED + SIGNS)
        middle = draw.randint(1, len(words[place]) - 1)
        words[place] = words[place][:middle] + letter + words[place][middle:]
        texts.append(" ".join(words))
    assert sum(mojibake(misread(text, encoding)) == text for text in texts) >= 0.95 * len(texts)


@given(st.text(st.sampled_from("abc XYZ.,!'" + ACCENTED + SIGNS)))
@example("CAFÉ—BAR")
@example("Ãœ")
def test_clean_text_is_left_alone(text: str) -> None:
    """Clean: no punctuation follows an accented letter directly (PROPER has texts where it may), nor does one of the
    letters that Windows-1252 has among its punctuation: Ãœ is Ü, misread."""
    clean = re.sub(f"([{ACCENTED}])(?=[{SIGNS}œšž])", r"\1 ", text)
    assert mojibake(clean) is None


@given(st.text())
def test_a_repair_is_shorter_and_never_fails(text: str) -> None:
    repaired = mojibake(text)
    assert repaired is None or len(repaired) < len(text)


@pytest.mark.parametrize("text", ["caf\ufffd", "cafï¿½ au lait", "\ufffd and donâ€™t"])
def test_lost_characters_are_reported_and_not_repaired(text: str) -> None:
    assert lost_characters(text)
    assert mojibake(text) is None


def test_nothing_is_lost_in_a_proper_text() -> None:
    assert not any(map(lost_characters, [*PROPER, *BROKEN, *SENTENCES]))


@pytest.mark.parametrize("name", ["banking77", "clinc150_oos", "sroie_receipts", "presidio_pii"])
def test_no_text_of_a_proper_data_set_is_repaired(name: str) -> None:
    """`bench/mojibake.py` asks the same of whole data sets."""
    rows = [json.loads(line) for line in (PUBLIC / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not [row["text"] for row in rows if mojibake(row["text"])]


def test_the_broken_titles_in_snips_are_found() -> None:
    lines = (PUBLIC / "snips.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    repaired = {text: fixed for text in texts if (fixed := mojibake(text))}
    assert repaired["play TÃ© Para Tres"] == "play Té Para Tres"
    assert all(re.search("[Â-ô][\x80-\xbf]", text) for text in repaired)


def test_plain_text_takes_hardly_any_time() -> None:
    assert min(timeit.repeat(lambda: mojibake("a" * 200), number=1000, repeat=5)) / 1000 < 5e-6
