"""The spec: one file, `tunewright.yaml`, in which the user declares the job."""

from tunewright.config.load import file_spec, load_money, load_spec, overlay, parse_spec
from tunewright.config.schema import (
    CORRECTIONS,
    FROZEN,
    RECORDED,
    RUNS,
    SPEC_FILE,
    FileSpec,
    MoneySpec,
    Spec,
    spec_schema,
    spec_sha256,
)
from tunewright.config.sections import USUAL, ApiSpec, DataSpec, GoalSpec, JudgeSpec, LabelSpec, TeacherSpec

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
