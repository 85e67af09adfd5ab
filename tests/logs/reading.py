"""Reading the samples of logs: rows of exactly the shapes that others write, with content of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewright.data.readers.base import Fault
from tunewright.data.readers.calls import read_calls
from tunewright.logs import LoggedCall

SAMPLES = Path(__file__).parent / "samples"


def rows_in(name: str) -> list[dict[str, Any]]:
    """The rows of a sample with one object a line."""
    return [json.loads(line) for line in (SAMPLES / name).read_text("utf-8").splitlines() if line.strip()]


def read_sample(name: str) -> list[LoggedCall]:
    """The calls of a sample, which has no line that can't be read."""
    found = []
    for each in read_calls(SAMPLES / name):
        assert not isinstance(each, Fault), each.reason
        found.append(each)
    return found
