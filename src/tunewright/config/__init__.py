"""The spec: one file, `tunewright.yaml`, in which the user declares the job."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tunewright.config.names import CORRECTIONS, FROZEN, RECORDED, RUNS, SPEC_FILE

if TYPE_CHECKING:
    from tunewright.config.load import file_spec, load_money, load_spec, overlay, parse_spec
    from tunewright.config.schema import FileSpec, MoneySpec, Spec, spec_schema, spec_sha256
    from tunewright.config.sections import USUAL, ApiSpec, DataSpec, GoalSpec, JudgeSpec, LabelSpec, TeacherSpec

_HOME = {
    **dict.fromkeys(("file_spec", "load_money", "load_spec", "overlay", "parse_spec"), "load"),
    **dict.fromkeys(("FileSpec", "MoneySpec", "Spec", "spec_schema", "spec_sha256"), "schema"),
    **dict.fromkeys(("USUAL", "ApiSpec", "DataSpec", "GoalSpec", "JudgeSpec", "LabelSpec", "TeacherSpec"), "sections"),
}

__all__ = [
    "CORRECTIONS",
    "FROZEN",
    "RECORDED",
    "RUNS",
    "SPEC_FILE",
    "USUAL",
    "ApiSpec",
    "DataSpec",
    "FileSpec",
    "GoalSpec",
    "JudgeSpec",
    "LabelSpec",
    "MoneySpec",
    "Spec",
    "TeacherSpec",
    "file_spec",
    "load_money",
    "load_spec",
    "overlay",
    "parse_spec",
    "spec_schema",
    "spec_sha256",
]


def __getattr__(name: str) -> Any:
    # Lazy, because a server reads a task's section and no spec.
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
