from __future__ import annotations

import sys

import pytest

from tunewright.core.progress import say, say_at_once


class Entered:
    """A stream that is being written to, as a signal's handler finds it when it has interrupted that."""

    def write(self, _: str) -> int:
        raise RuntimeError("reentrant call")

    def flush(self) -> None: ...


def test_a_signals_handler_speaks_where_it_has_interrupted_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Entered())
    with pytest.raises(RuntimeError):
        say("a line")
    say_at_once("SIGTERM: a checkpoint is saved")
    assert capfd.readouterr().err == "SIGTERM: a checkpoint is saved\n"
