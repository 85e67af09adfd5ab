"""Weights for OpenVINO, quantised, and adapters beside them: what `tunewright.inference.runtimes.openvino.graph` is
built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.exporters.decoder import Decoder, Matrix, Vector, parts_of, rows_of
from tunewright.exporters.lora import read_lora
from tunewright.exporters.quantise import Grid, Loss, Quantised
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
        precision: "int8", a scale and a zero point for each output of a matrix; "int4", for each group of inputs, the
            output layer, the embedding and the touchiest matrices in int8; or "fp32".

    Raises:
        UserError: the architecture is not one of those that are built, or the folder is not whole.
    """
    decoder = Decoder(source, turned=precision != "fp32")
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
            fine = precision == "int8" or is_touchy(part.module, layers) or not _FOUR.fits(part.shape[1])
            _write(writer, part, _EIGHT if fine else _FOUR, loss)
    writer.close()
    # In transformers' newest words, with all that it leaves out where it is the default: serving has no transformers.
    write_json(target / CONFIG, {k: v for k, v in decoder.config.to_dict().items() if k != "_name_or_path"})
    return loss


def _write(writer: TensorWriter, matrix: Matrix, grid: Grid, loss: Loss) -> None:
    """A matrix with its scales and zeros, [out, 1] or [out, groups, 1]."""
    quantised = Quantised(matrix, grid, loss)
    writer.write(f"{matrix.module}.weight", quantised.levels())
    for kind, values in (("zero", quantised.zeros), ("scale", quantised.scales)):
        whole = np.concatenate(values)
        writer.write(f"{matrix.module}.{kind}", whole[..., None] if grid.group else whole)


def is_touchy(name: str, layers: int) -> bool:
    """Whether four bits would cost much: where the vocabulary is, and the values and outputs of the first and the last
    eighth of the layers and of each third between them (the mixture of llama.cpp's Q4_K_M)."""
    if not name.startswith("model.layers."):
        return True
    number, part = int(name.split(".")[2]), name.rpartition(".")[2]
    eighth = layers // 8
    return part in ("v_proj", "down_proj") and (
        number < eighth or number >= layers - eighth or (number - eighth) % 3 == 2
    )


def export_adapter(source: Path, base: Path, target: Path, precision: str) -> None:
    """Write a peft adapter as it is served beside its base.

    Args:
        source: peft's folder.
        base: Hugging Face's folder of its base.
        precision: of the base's weights, as `build_openvino` wrote them.
    """
    from transformers import AutoConfig

    with loading(base):
        config = AutoConfig.from_pretrained(base, local_files_only=True)
    turned = None
    if precision != "fp32":
        turned = Rotation(Weights(base), config.hidden_size, architecture_of(config.to_dict()))
    down: dict[str, Any] = {}
    up: dict[str, Any] = {}
    for name, update in read_lora(source).items():
        for each in parts_of(name, config):
            down[each] = np.ascontiguousarray((turned.inputs(each, update.down) if turned else update.down).T)
        for each, rows in rows_of(name, len(update.up), config):
            part = update.up[rows]
            up[each] = np.ascontiguousarray((turned.outputs(each, part) if turned else part).T) * update.scale
    save_adapter(Adapter(down, up), target)
