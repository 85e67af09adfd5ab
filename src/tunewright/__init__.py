"""Tunewright: from paying a frontier model for one narrow job to owning a small one that does it, or not.

import tunewright as tw

spec = tw.load_spec("examples/tickets")
report = tw.run(spec)
print(report.sentence)
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tunewright.version import __version__

if TYPE_CHECKING:
    from tunewright.api import Report, check, evaluate, export, plan, run, serve, split, sweep, train
    from tunewright.errors import GateFailed, UserError
    from tunewright.spec import Spec, load_spec

_HOME = {
    **dict.fromkeys(
        ("Report", "check", "evaluate", "export", "plan", "run", "serve", "split", "sweep", "train"), "tunewright.api"
    ),
    **dict.fromkeys(("GateFailed", "UserError"), "tunewright.errors"),
    **dict.fromkeys(("Spec", "load_spec"), "tunewright.spec"),
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
    "run",
    "serve",
    "split",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import tunewright` and `tunewright --help` cost nothing.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tunewright' has no attribute '{name}'")


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the room tunewright.train would otherwise put it in the place of the function tw.train.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
