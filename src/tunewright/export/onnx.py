"""ONNX by onnxruntime-genai's model builder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tunewright.errors import UserError, as_user_error


def build_onnx(source: Path, target: Path, precision: str) -> None:
    """Build an ONNX folder for the CPU from a Hugging Face folder.

    Args:
        precision: "int8" or "int4" (weights in blocks of 128), or "fp32".

    Raises:
        UserError: the builder failed; its last line is the reason.
    """
    options = ["hf_remote=false", "prune_lm_head=true", *([] if precision == "fp32" else ["block_size=128"])]
    with tempfile.TemporaryDirectory(dir=target.parent if target.parent.exists() else source.parent) as cache:
        command = [
            sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-o", str(target),
            "-e", "cpu", "-p", precision, "-c", cache, "--extra_options", *options,
        ]  # fmt: skip
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        last = (answer.stderr.strip() or answer.stdout.strip() or "no output").splitlines()[-1]
        raise as_user_error(OSError(last), target.parent) or UserError(
            "The ONNX builder failed.", where=source, why=last, fix="Try export.precision=fp32, or another base model."
        )
