"""ONNX by onnxruntime-genai's model builder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tunewright.errors import UserError, as_user_error

_QUANTISATION = {
    "fp32": [],
    # Blocks of 128 are a tenth faster than 64 and stray up to three times as far from the original.
    "int8": ["block_size=64"],
    # Round-to-nearest int4 strays five times as far as k-quants with the output layer and the touchiest layers in int8.
    # Figures: docs/experiments.md, bench/quantise.py.
    "int4": ["block_size=32", "algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"],
}


def build_onnx(source: Path, target: Path, precision: str, options: Sequence[str] | None = None) -> None:
    """Build an ONNX folder for the CPU from a Hugging Face folder.

    Args:
        precision: "int8", "int4" or "fp32".
        options: the builder's extra options; by default those that suit the precision.

    Raises:
        UserError: the builder failed; its last line is the reason.
    """
    chosen = _QUANTISATION[precision] if options is None else options
    with tempfile.TemporaryDirectory(dir=target.parent if target.parent.exists() else source.parent) as cache:
        command = [
            sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-o", str(target),
            "-e", "cpu", "-p", precision, "-c", cache,
            "--extra_options", "hf_remote=false", "prune_lm_head=true", *chosen,
        ]  # fmt: skip
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        last = (answer.stderr.strip() or answer.stdout.strip() or "no output").splitlines()[-1]
        raise as_user_error(OSError(last), target.parent) or UserError(
            "The ONNX builder failed.", where=source, why=last, fix="Try export.precision=fp32, or another base model."
        )
    # The builder's own tokenizer files ignore some pre-tokenizers; only the bundle's may be read.
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (target / name).unlink(missing_ok=True)
