"""That what goes wrong is found, and kept as small as it was found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import running
from tests.fuzz.running import FOUND, Input, try_examples, try_one
from tunewright.core.errors import UserError

INPUTS: st.SearchStrategy[Input] = st.tuples(st.just("a/b"), st.binary(max_size=50))


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_what_fails_is_kept_as_small_as_it_was_found(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def check(_: str, content: bytes) -> None:
        if len(content) > 3:
            raise ValueError("no")
        raise UserError("no")

    with pytest.raises(ValueError, match="no"):
        try_examples(check, INPUTS, 100, name="target", seconds=seconds)
    assert (FOUND / "target" / "a_b").read_bytes() == bytes(4)


def test_what_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: str, content: bytes) -> None:
        until = time.process_time() + len(content) / 100
        while time.process_time() < until:
            pass

    monkeypatch.setattr(running, "MOST_CPU", 0.2)
    try_one(check, ("a", b""))
    with pytest.raises(AssertionError, match="s of CPU for 30 bytes"):
        try_one(check, ("a", bytes(30)))
