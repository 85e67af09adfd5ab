"""ONNX models from onnxruntime-genai's model builder, with weights that this module quantises, a few rows at a time.

The builder's own quantizers hold the whole model in float32, three times over, and its k-quants take half an hour for a
few billion parameters. But it reads weights that Olive has quantised (its loaders/olive.py, onnxruntime-genai 0.18), so
this module writes the weights in that form first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.errors import UserError, as_user_error
from tunewright.exporters.decoder import EMBEDDING, HEAD, Decoder, Vector
from tunewright.exporters.quantisation import Grid, Loss, Quantised, packed
from tunewright.models.architectures import architecture_of

_GROUPS = {"int8": (64, 32, 16), "int4": (32, 16)}
"""Inputs that share a scale: the first size that divides a matrix. In int8, groups of 128 are a tenth faster than 64
and have up to three times the error (`bench/quantise.py`)."""
_MIXED = ("q_proj", "k_proj", "v_proj", "down_proj")


def build_onnx(source: Path, target: Path, precision: str) -> Loss:
    """Build an ONNX folder for the CPU from a Hugging Face folder.

    Args:
        precision: "int8"; "int4", with the output layer and the most sensitive matrices in int8; or "fp32".

    Raises:
        UserError: the folder is incomplete, or the builder failed; its last line is the reason.
    """
    loss = Loss()
    with tempfile.TemporaryDirectory(dir=target.parent if target.parent.exists() else source.parent) as scratch:
        if precision == "fp32":
            run_builder("tunewright.exporters.onnx_builder", source, target, precision)
        else:
            quantised = Path(scratch) / "quantised"
            _write_quantised(source, quantised, precision, loss)
            run_builder("tunewright.exporters.onnx_builder", quantised, target, precision)
    # The builder's own tokenizer files ignore some pre-tokenizers; only the bundle's may be used.
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (target / name).unlink(missing_ok=True)
    return loss


def run_builder(module: str, source: Path, target: Path, precision: str, options: Sequence[str] = ()) -> None:
    """Run the builder, or a module with the same arguments, in its own process.

    Args:
        options: extra options of the builder.
    """
    with tempfile.TemporaryDirectory(dir=target.parent if target.parent.exists() else source.parent) as cache:
        command = [
            sys.executable,
            "-m",
            module,
            "-i",
            str(source),
            "-o",
            str(target),
            "-e",
            "cpu",
            "-p",
            precision,
            "-c",
            cache,
            "--extra_options",
            "hf_remote=false",
            "prune_lm_head=true",
            "windowed_kv_cache=false",
            *options,
        ]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        last = (answer.stderr.strip() or answer.stdout.strip() or "no output").splitlines()[-1]
        if last.startswith("NotImplementedError"):
            raise UserError(
                "ONNX Runtime can't serve a model of this type.",
                where=source,
                why=last,
                fix="Set export.runtime=vllm, or choose another base model.",
            )
        raise as_user_error(OSError(last), target.parent) or UserError(
            "The ONNX builder failed.", where=source, why=last, fix="Try export.precision=fp32, or another base model."
        )


def _write_quantised(source: Path, target: Path, precision: str, loss: Loss) -> None:
    """Write a folder in Olive's form: for each matrix `qweight` [out, in * bits / 8], `scales`, `qzeros` [out,
    groups]."""
    kind = architecture_of(json.loads((source / "config.json").read_text("utf-8")))
    decoder = Decoder(source, rotated=not kind.outer_norms, plus_one=False, own_head=True)
    target.mkdir()
    layers = decoder.config.num_hidden_layers
    writer = decoder.writer(target / "model.safetensors")
    grids: dict[str, Grid] = {}
    for part in decoder.tracked(f"{precision} weights"):
        if isinstance(part, Vector):
            if not part.name.startswith("rotary"):
                writer.write(part.name, part.values)
        elif part.module == EMBEDDING:
            writer.write(f"{EMBEDDING}.weight", (part.rows(*rows) for rows in part.blocks()))
        else:
            four = precision == "int4" and not _is_sensitive(part.module, layers)
            grids[part.module] = grid = _grid(4 if four else 8, precision, part.module, part.shape[1])
            quantised = Quantised(part, grid, loss)
            writer.write(f"{part.module}.qweight", quantised.levels())
            writer.write(f"{part.module}.scales", np.concatenate(quantised.scales))
            zeros = np.concatenate(quantised.zeros)
            writer.write(f"{part.module}.qzeros", zeros if grid.bits == 8 else packed(zeros))
    writer.close()
    config = json.loads((source / "config.json").read_text("utf-8"))
    config |= {"tie_word_embeddings": False, "quantization_config": _settings(grids)}
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (source / name).is_file():
            (target / name).symlink_to((source / name).resolve())


def _grid(bits: int, precision: str, module: str, inputs: int) -> Grid:
    groups = _GROUPS[precision]
    group = next((size for size in groups if inputs % size == 0), None)
    if group is None:
        raise UserError(
            f"ONNX Runtime can't have {module} in {precision}.",
            why=f"Its {inputs} inputs can't be divided into groups of {groups[-1]}.",
            fix="Set export.precision=fp32.",
        )
    return Grid(bits, group)


def _settings(grids: dict[str, Grid]) -> dict[str, Any]:
    """The quantisation settings for the builder, for each matrix by itself."""
    each = {name: {"bits": grid.bits, "group_size": grid.group} for name, grid in grids.items()}
    return {"quant_method": "olive", **each[HEAD], "overrides": each}


def _is_sensitive(name: str, layers: int) -> bool:
    """Whether four bits would cost much, as in the builder's own mixture: for the output layer, and in some layers for
    the projections of queries, keys and values, which become one matrix, and for the down projection."""
    if name == HEAD:
        return True
    number, part = int(name.split(".")[2]), name.rpartition(".")[2]
    return part in _MIXED and (number < layers / 8 or number >= 7 * layers / 8 or (number - round(layers / 8)) % 3 == 2)
