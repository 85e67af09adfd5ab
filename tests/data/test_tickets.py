"""The shipped tickets are the output of their program, and the demo's statements about them hold."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tunewright.config import load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.dedup.near import near_copies

TICKETS = REPOSITORY / "examples" / "tickets"
PARTS = ("train", "test", "test_unseen_phrasing")


@pytest.fixture(scope="module")
def parts() -> dict[str, list[dict[str, str]]]:
    return {name: read_jsonl(TICKETS / "data" / f"{name}.jsonl") for name in PARTS}


def test_the_program_makes_the_shipped_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(TICKETS / "make_data.py"), str(tmp_path)], check=True)
    for name in PARTS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (TICKETS / "data" / f"{name}.jsonl").read_bytes(), name


def test_routes_are_equally_frequent_and_are_those_of_the_spec(parts: dict[str, list[dict[str, str]]]) -> None:
    labels = load_spec(TICKETS).task.labels
    for rows in parts.values():
        counts = Counter(row["label"] for row in rows)
        assert set(counts) == set(labels)
        assert len(set(counts.values())) == 1


def test_no_phrasing_repeats_within_a_part(parts: dict[str, list[dict[str, str]]]) -> None:
    for name, rows in parts.items():
        assert len({row["phrasing"] for row in rows}) == len(rows), name
    known = {row["phrasing"] for row in parts["train"]}
    assert {row["phrasing"] for row in parts["test"]} <= known
    assert not known & {row["phrasing"] for row in parts["test_unseen_phrasing"]}


def test_an_unseen_phrasing_shares_few_words_with_those_of_training(parts: dict[str, list[dict[str, str]]]) -> None:
    """The sentences themselves, without the words around them. The product calls 0.8 a near copy."""
    sentences = _phrasings()
    known, unseen = ([sentences[row["phrasing"]] for row in parts[name]] for name in ("train", "test_unseen_phrasing"))
    assert near_copies(known, unseen, 0.6) == []


def test_examples_in_the_api_prompt_are_not_in_the_test() -> None:
    """Examples in the API's prompt must not be answers to the test."""
    prompt = " ".join((load_spec(TICKETS).api.prompt or "").split())
    examples = prompt.split('"')[1::2]
    assert len(examples) >= 16
    assert not [example for example in examples if example.lower() in {text.lower() for text in _phrasings().values()}]


def _phrasings() -> dict[str, str]:
    """The sentences, by the name of the phrasing."""
    found, route, number = {}, "", 0
    for line in (TICKETS / "phrasings.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            route, number = line.strip("[]"), 0
        elif line and not line.startswith("#"):
            found |= {
                f"{route}/{number}{letter}": text for letter, text in zip("abcdef", line.split(" | "), strict=True)
            }
            number += 1
    return found
