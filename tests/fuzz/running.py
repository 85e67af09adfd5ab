"""Trying examples on a target, and what counts as a failure."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.strategies import SearchStrategy

from tunewright.core.errors import UserError

Input = tuple[str, bytes]
"""(a file's name or what else tells a target how to read it, its bytes)."""
Check = Callable[[str, bytes], None]

MOST_CPU = 5.0
"""Seconds of CPU for one example of some kilobytes. Ones of the usual kind take milliseconds."""
KEPT = Path(".hypothesis") / "examples"
"""Where hypothesis keeps what failed, to try it first the next time."""
FOUND = Path(".hypothesis") / "found"
"""Where the last failing example of a target is, which is the smallest."""
_SHOWN = 500
"""Bytes of an example in the report of a test."""
_ROUND = 100
"""Examples between two looks at the clock."""
_COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
)


def try_one(check: Check, example: Input) -> None:
    """Fail where a target does anything but answer or refuse, or takes too long for it."""
    begun = _cpu()
    try:
        check(*example)
    except UserError:
        pass
    except BaseException as error:
        # Extensions written in Rust panic with what hypothesis takes for somebody's Ctrl-C.
        if type(error).__name__ == "PanicException":
            raise AssertionError(f"a panic: {error}") from error
        raise
    spent = _cpu() - begun
    assert spent < MOST_CPU, f"{spent:.1f} s of CPU for {len(example[1]):,} bytes"


def try_examples(check: Check, inputs: SearchStrategy[Input], examples: int, *, name: str, seconds: float) -> None:
    """Try examples until the time is over; without time so many, the same ones each time.

    Args:
        name: of the target, for what is kept of it.
    """

    def tried(example: Input) -> None:
        try:
            try_one(check, example)
        except Exception:
            folder = FOUND / name
            folder.mkdir(parents=True, exist_ok=True)
            for former in folder.iterdir():
                former.unlink()
            (folder / example[0].replace("/", "_")).write_bytes(example[1])
            note(f"{example[0]!r}: {example[1][:_SHOWN]!r}, all {len(example[1]):,} bytes of it in {folder}")
            raise

    tried.__name__ = tried.__qualname__ = name.replace("-", "_")  # by which hypothesis keeps what failed
    if not seconds:
        settings(_COMMON, max_examples=examples, derandomize=True, database=None)(given(inputs)(tried))()
        return
    until = time.monotonic() + seconds
    # Said in full, because under CI hypothesis would ask the same each time and keep nothing.
    others = settings(_COMMON, max_examples=_ROUND, derandomize=False, database=DirectoryBasedExampleDatabase(KEPT))
    while time.monotonic() < until:
        others(given(inputs)(tried))()


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
