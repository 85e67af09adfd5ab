from __future__ import annotations

import sys

import pytest

from tunewright.core import progress
from tunewright.core.progress import say, say_at_once, track


def test_the_time_left_does_not_count_what_an_earlier_run_did(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with track("train", 1000, "steps") as tracker:
        for seconds, done in ((20, 600), (32, 610), (43, 620)):
            now[0] = seconds
            tracker.update(done, "loss 0.1")
    assert capfd.readouterr().err.splitlines() == [
        "  train: 600/1000 steps (60 %), loss 0.1",
        "  train: 610/1000 steps (61 %), 468 s left, loss 0.1",
        "  train: 620/1000 steps (62 %), 437 s left, loss 0.1",
    ]


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
