"""Progress messages: a bar on a terminal, a plain line every ten seconds elsewhere.

Everything goes to standard error, so that standard output holds only the result (or the JSON of `--json`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tunewright.core.processes import is_leader

HEARTBEAT_SECONDS = 10.0


def quiet_loggers() -> None:
    """Keep the libraries' own warnings and progress bars off the terminal."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("bitsandbytes", "transformers", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Tracker(Protocol):
    """The progress of a long loop, which may call `update(done, note)` as often as it likes."""

    def update(self, done: float, note: str = "") -> None: ...


class _Heartbeat:
    def __init__(self, name: str, total: float, unit: str):
        self.name, self.total, self.unit = name, total, unit
        self.last = time.monotonic()
        self.first: tuple[float, float] | None = None
        """The time and the units of the first update. What an earlier run did tells nothing of the time left."""

    def update(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        since, before = self.first = self.first or (now, done)
        if now - self.last < HEARTBEAT_SECONDS:
            return
        self.last = now
        parts = [f"{done:.0f}/{self.total:.0f} {self.unit} ({100 * done / max(self.total, 1e-9):.0f} %)"]
        if done > before:
            parts.append(f"{(now - since) / (done - before) * (self.total - done):.0f} s left")
        say(f"  {self.name}: {', '.join([*parts, *([note] if note else [])])}")


class _Bar:
    def __init__(self, name: str, total: float, unit: str):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.progress.add_task(name, total=total, note="")
        self.begun = False

    def update(self, done: float, note: str = "") -> None:
        if not self.begun:  # as in `_Heartbeat`
            self.begun = True
            self.progress.reset(self.task, completed=int(done))
        self.progress.update(self.task, completed=done, note=note)


def say(line: str) -> None:
    """Print one line on standard error. In a distributed training only the leader prints."""
    if is_leader():
        print(line, file=sys.stderr, flush=True)


def say_at_once(line: str) -> None:
    """`say` for signal handlers. A handler may interrupt `say` itself, whose stream is not reentrant."""
    if is_leader():
        os.write(2, f"{line}\n".encode())


@contextmanager
def track(name: str, total: float, unit: str = "") -> Iterator[Tracker]:
    """Show the progress of a loop of `total` units. The bar closes on any exit."""
    if not (sys.stderr.isatty() and is_leader()):
        yield _Heartbeat(name, total, unit)
        return
    bar = _Bar(name, total, unit)
    with bar.progress:
        yield bar


def quiet_libraries() -> None:
    """`quiet_loggers`, and the switches of transformers, which need its import."""
    quiet_loggers()
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
