"""The error about a step that was killed: whether memory was the reason, and what would need less of it."""

from __future__ import annotations

import re
import signal

from tunewright.core.errors import UserError
from tunewright.core.processes import machine_memory, oom_kills
from tunewright.pipeline.steps import Step

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a process that was killed, as Python and as a shell report them."""
_GIB = 2**30
_MEMORY = re.compile(r"\b137\b|(?<!\w)-9\b|out of memory|OOM", re.IGNORECASE)


def killed(step: Step, kills_before: int) -> UserError:
    """The error about a step whose exit code is one of `KILLED`.

    Args:
        kills_before: `oom_kills()` when the step was started.
    """
    what = f"The step {step.name} was killed."
    why = "Most often memory has run out."
    if oom_kills() > kills_before:
        what, why = f"The step {step.name} ran out of memory, so the kernel ended it.", ""
    again = "Then type the same command again" + (" to go on from there." if step.resumes else ".")
    return UserError(
        what,
        why=f"{why} This machine has {machine_memory() / _GIB:.1f} GiB.".strip(),
        fix=f"{step.less_memory} {again}",
    )


def names_memory(message: str) -> bool:
    """Whether a cloud's message about a failed job means that the job was killed, which usually means that it ran out
    of memory."""
    return _MEMORY.search(message) is not None
