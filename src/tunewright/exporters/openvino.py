"""Quantised weights for OpenVINO, and adapters beside them; `tunewright.inference.runtimes.openvino.graph` reads
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.exporters.decoder import Decoder, Matrix, Vector, parts_of, rows_of
from tunewright.exporters.lora import read_lora
from tunewright.exporters.quantisation import Grid, Loss, Quantised
from tunewright.exporters.rotation import Rotation
from tunewright.inference.runtimes.openvino.adapter import Adapter, save_adapter
from tunewright.inference.runtimes.openvino.shape import CONFIG, GROUP, WEIGHTS
from tunewright.models.architectures import architecture_of, unsupported
from tunewright.models.files import loading
from tunewright.models.tensor_files import TensorWriter, Weights

_EIGHT, _FOUR = Grid(8, None), Grid(4, GROUP)


def build_openvino(source: Path, target: Path, precision: str) -> Loss:
    """Write the weights of a Hugging Face folder, a few rows at a time.

    Args:
        precision: "int8", with a scale and a zero point for each output of a matrix; "int4", with one for each group of
            inputs, and the output layer, the embedding and the most sensitive matrices in int8; or "fp32".

    Raises:
        UserError: the architecture is not supported, or the folder is incomplete.
    """
    decoder = Decoder(source, rotated=precision != "fp32")
    if reason := unsupported(decoder.config.to_dict()):
        raise UserError(
            f"OpenVINO can't serve a model of the type {decoder.config.model_type}: {reason}.",
            where=source,
            fix="Set export.runtime=onnxruntime.",
        )
    target.mkdir(parents=True)
    layers, loss = decoder.config.num_hidden_layers, Loss()
    writer = decoder.writer(target / WEIGHTS)
    for part in decoder.tracked(f"{precision} weights"):
        if isinstance(part, Vector):
            writer.write(part.name, part.values)
        elif precision == "fp32":
            writer.write(f"{part.module}.weight", (part.rows(*rows) for rows in part.blocks()))
        else:
            fine = precision == "int8" or is_sensitive(part.module, layers) or not _FOUR.fits(part.shape[1])
            _write(writer, part, _EIGHT if fine else _FOUR, loss)
    writer.close()
    # With transformers' newest keys, and all defaults written out: serving has no transformers.
    write_json(target / CONFIG, {k: v for k, v in decoder.config.to_dict().items() if k != "_name_or_path"})
    return loss


def _write(writer: TensorWriter, matrix: Matrix, grid: Grid, loss: Loss) -> None:
    """Write a matrix with its scales and zeros, [out, 1] or [out, groups, 1]."""
    quantised = Quantised(matrix, grid, loss)
    writer.write(f"{matrix.module}.weight", quantised.levels())
    for kind, values in (("zero", quantised.zeros), ("scale", quantised.scales)):
        whole = np.concatenate(values)
        writer.write(f"{matrix.module}.{kind}", whole[..., None] if grid.group else whole)


def is_sensitive(name: str, layers: int) -> bool:
    """Whether four bits would cost much: for the embedding and the output layer, and for the value and down projections
    of the first and the last eighth of the layers and of each third layer between them (the mixture of llama.cpp's
    Q4_K_M)."""
    if not name.startswith("model.layers."):
        return True
    number, part = int(name.split(".")[2]), name.rpartition(".")[2]
    eighth = layers // 8
    return part in ("v_proj", "down_proj") and (
        number < eighth or number >= layers - eighth or (number - eighth) % 3 == 2
    )


def export_adapter(source: Path, base: Path, target: Path, precision: str) -> None:
    """Write a peft adapter in the form in which it is served beside its base.

    Args:
        source: peft's folder.
        base: Hugging Face's folder of its base.
        precision: the precision of the base's weights, as `build_openvino` wrote them.
    """
    from transformers import AutoConfig

    with loading(base):
        config = AutoConfig.from_pretrained(base, local_files_only=True)
    rotated = None
    if precision != "fp32":
        rotated = Rotation(Weights(base), config.hidden_size, architecture_of(config.to_dict()))
    down: dict[str, Any] = {}
    up: dict[str, Any] = {}
    for name, update in read_lora(source).items():
        for each in parts_of(name, config):
            down[each] = np.ascontiguousarray((rotated.inputs(each, update.down) if rotated else update.down).T)
        for each, rows in rows_of(name, len(update.up), config):
            part = update.up[rows]
            up[each] = np.ascontiguousarray((rotated.outputs(each, part) if rotated else part).T) * update.scale
    save_adapter(Adapter(down, up), target)
