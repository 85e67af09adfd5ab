"""Tunewright: from paying a frontier model for one narrow job to owning a small one that does it, or not.

import tunewright as tw

spec = tw.load_spec("examples/tickets")
report = tw.run(spec)
print(report.sentence)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tunewright.core.telemetry import disable_telemetry
from tunewright.core.version import __version__

if TYPE_CHECKING:
    from tunewright.api import Report, check, evaluate, export, plan, prune, run, serve, split, sweep, train
    from tunewright.config import Spec, load_spec
    from tunewright.core.errors import GateFailed, UserError

_HOME = {
    **dict.fromkeys(
        ("Report", "check", "evaluate", "export", "plan", "prune", "run", "serve", "split", "sweep", "train"),
        "tunewright.api",
    ),
    **dict.fromkeys(("GateFailed", "UserError"), "tunewright.core.errors"),
    **dict.fromkeys(("Spec", "load_spec"), "tunewright.config"),
}

__all__ = [
    "GateFailed",
    "Report",
    "Spec",
    "UserError",
    "__version__",
    "check",
    "evaluate",
    "export",
    "load_spec",
    "plan",
    "prune",
    "run",
    "serve",
    "split",
    "sweep",
    "train",
]

disable_telemetry()


def __getattr__(name: str) -> Any:
    # Lazy, so that `import tunewright` and `tunewright --help` cost nothing.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tunewright' has no attribute '{name}'")
