"""Keeps libraries from telling their makers how they are used. `import tunewright` does so, before it loads any."""

from __future__ import annotations

import os
import sys

VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and through it transformers and trl
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime since 1.29, to Microsoft (its Privacy.md, read 2026-12-05)
}
"""Environment variables that libraries read as they are imported. One that the user has set stays as it is."""


def disable_telemetry() -> None:
    """Tell the libraries of this process, and those of its children."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    # OpenVINO reports its import to Google Analytics. Without this module it uses a stub that reports nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
