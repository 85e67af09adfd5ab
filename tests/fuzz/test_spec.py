"""Specs: read, or one paragraph with all that is wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.conftest import make_spec
from tests.fuzz.mutation import NASTY, json_of, mutated, names, seeds
from tests.fuzz.running import Input
from tunewright.config import load_money, load_spec, parse_spec, spec_schema, spec_sha256

TASKS: list[dict[str, Any]] = [
    {"kind": "classify", "instruction": "Which?\n{labels}", "labels": {"a": "what", "b": ""}},
    {"kind": "multi_label", "instruction": "Which?", "labels": ["a", "b"]},
    {"kind": "generate", "instruction": "Answer."},
    {
        "kind": "extract",
        "instruction": "Read.",
        "schema": {
            "type": "object",
            "properties": {"total": {"type": "number"}, "of": {"type": "string", "pattern": "^[A-Z]{3}$"}},
            "required": ["total"],
        },
    },
]
APIS = [{"model": "gpt-5", "url": "openai", "key": "KEY"}, {"name": "b", "model": "c", "recorded": "replies.jsonl"}]
SPECS: list[Any] = [make_spec(task=task).model_dump(mode="json", by_alias=True) for task in TASKS]
SPECS += [
    {"name": "a", "task": TASKS[0], "data": {"train": "a.jsonl", "test": {"seen": "b.csv"}}, "apis": APIS, "today": "b"}
]
KEYS = tuple(
    sorted({key for each in [spec_schema(), *spec_schema()["$defs"].values()] for key in each.get("properties", {})})
)


def check(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        spec = load_spec(file)
        spec_sha256(spec)
        again = load_spec(spec.save(Path(folder)))
        assert spec_sha256(again, "task", "goal") == spec_sha256(spec, "task", "goal")


def check_money(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        load_money(file)


def check_override(_: str, content: bytes) -> None:
    parse_spec(
        '{"name": "a", "task": {"kind": "generate", "instruction": "b"}, "data": {"train": "c"}}',
        Path("/nowhere/tunewright.yaml"),
        [content.decode("utf-8", "surrogateescape")],
    )


@pytest.mark.parametrize("seed", seeds("spec"), ids=names("spec"))
def test_kept(seed: Input, keep: Callable[..., None]) -> None:
    keep(check_override if seed[0] == "override" else check, seed)


def test_mutated_yaml(fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("spec").filter(lambda example: example[0] != "override"), 40)


def test_known_keys_that_hold_anything(fuzz: Callable[..., None]) -> None:
    fuzz(check, json_of(SPECS, "tunewright.yaml", KEYS), 30)


def test_money_that_is_anything(fuzz: Callable[..., None]) -> None:
    fuzz(check_money, json_of(SPECS, "tunewright.yaml", KEYS), 20)


def test_overrides(fuzz: Callable[..., None]) -> None:
    parts = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join)
    signs = st.sampled_from(["=", "+=", "", "==", ".=", " = "])
    values = st.sampled_from(NASTY).map(lambda token: token.decode("utf-8", "surrogateescape")) | st.text(max_size=10)
    texts = st.tuples(parts, signs, values).map("".join) | st.text(max_size=20)
    fuzz(check_override, texts.map(lambda text: ("override", text.encode("utf-8", "surrogatepass"))), 50)
