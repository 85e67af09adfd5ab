"""What many fast tests share: a small spec, examples, a tokenizer without a model, and the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from tunewright.spec import Spec, parse_spec
from tunewright.tasks import Example, Meta

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
LABELS = ["billing", "defect", "refund"]


def spec_data(**changes: Any) -> dict[str, Any]:
    """The smallest spec as plain data; `changes` are top-level keys."""
    task = {"kind": "classify", "instruction": "Route the ticket:\n{labels}", "labels": LABELS}
    return {"name": "tickets", "task": task, "data": {"train": "train.jsonl"}, **changes}


def make_spec(folder: Path = Path("/nowhere"), **changes: Any) -> Spec:
    return parse_spec(json.dumps(spec_data(**changes)), folder / "tunewright.yaml")


def example(request: str, answer: str = "billing", group: str | None = None, source: str | None = None) -> Example:
    return Example.of(request, answer, Meta(id=f"id-{request}", group=group, source=source))


def unalike(key: str) -> str:
    """Four made-up words that no other key shares, so that texts of them are nobody's near copies."""
    draw = random.Random(key)
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(4))


def write_project(folder: Path, **changes: Any) -> Path:
    """A project whose data the steps check and split can use."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{label} {unalike(f'{label} {n}')}", "label": label} for n in range(30) for label in LABELS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "tunewright.yaml").write_text(json.dumps(spec_data(**changes)), "utf-8")
    return folder


class CharTokenizer:
    """One token a character."""

    def encode_text(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    encode_verbatim = encode_text


def decode(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )
