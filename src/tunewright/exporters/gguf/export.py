"""GGUF files of a merged model, for llama.cpp, Ollama and what is built on them.

f16 and Q8_0 are written here, from mapped safetensors, some rows at a time: memory does not grow with the model. Q4_K_M
is made of f16 by llama.cpp's own quantizer, which knows which layers need more bits
(`tunewright.exporters.gguf.llama`). A file has another name until it is whole.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tunewright.config import Spec
from tunewright.core.artifacts import sha256_file, write_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.exporters.gguf.layout import Layout
from tunewright.exporters.gguf.llama import quantise_q4_k_m, require_llama
from tunewright.exporters.gguf.ollama import modelfile
from tunewright.exporters.gguf.vocabulary import Vocabulary
from tunewright.exporters.other_engines import (
    GRAMMAR,
    SYSTEM_PROMPT,
    Asking,
    asking_in,
    card,
    confined_only,
    read_json,
    special_tokens,
)
from tunewright.inference.bundle import load_bundle
from tunewright.models.tensor_files import Tensor, Weights

Precision = Literal["f16", "q8_0", "q4_k_m"]
PRECISIONS: tuple[Precision, ...] = ("f16", "q8_0", "q4_k_m")
LIST_FILE = "gguf.json"
"""Beside the files: which of them are whole, and of what they were made."""
_BITS: Mapping[Precision, float] = {"f16": 16, "q8_0": 8.5, "q4_k_m": 6.5}
"""A weight's, at most: small models have more in the layers that are kept finer."""
_SAID: Mapping[Precision, str] = {
    "f16": "16 bits, the merged weights as they are",
    "q8_0": "8 bits, in blocks of 32 values",
    "q4_k_m": "4 to 6 bits, by llama.cpp's quantizer without a calibration text",
}
_SERVED_FIRST: tuple[Precision, ...] = ("q8_0", "q4_k_m", "f16")
"""Which of the files Ollama is given."""
_SLICE = 1 << 24
"""Values that are converted at once: 64 MiB as float32."""
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class GgufFile:
    path: Path
    precision: Precision
    sha256: str


def export_gguf(
    spec: Spec, exported: Path, source: str, folder: Path, precisions: Sequence[Precision]
) -> list[GgufFile]:
    """The GGUF files of a run, with a Modelfile for Ollama, the system prompt and a card beside them.

    Args:
        exported: the output of the step `export`.
        source: as of `write_gguf`.

    Raises:
        UserError: as `write_gguf` and `tunewright.exporters.gguf.ollama.modelfile`.
    """
    bundle, merged = load_bundle(exported / "bundle"), exported / "merged"
    asking = asking_in(merged, bundle)
    name = _file_name(spec.name, _SERVED_FIRST[min(map(_SERVED_FIRST.index, precisions))])
    end = bundle.tokenizer.decode([asking.end])
    served = modelfile(
        name, asking, end, bundle.info.context, special_tokens(merged), confined_only=confined_only(spec)
    )
    files = write_gguf(merged, folder, spec.name, precisions, asking, source)
    said = {each.path.name: f"{each.path.stat().st_size / 1e6:.0f} MB, {_SAID[each.precision]}" for each in files}
    beside = {"Modelfile": served, SYSTEM_PROMPT: asking.system, "README.md": card(spec, asking, "gguf", said)}
    if asking.choices:
        beside[GRAMMAR] = asking.grammar
    for file, text in beside.items():
        (folder / file).write_text(text, "utf-8")
    return files


def write_gguf(
    merged: Path, folder: Path, name: str, precisions: Sequence[Precision], asking: Asking, source: str
) -> list[GgufFile]:
    """Bring the GGUF files of a merged model up to date in a folder.

    Args:
        merged: Hugging Face's folder, as `export` writes it.
        name: of the model; the files are called so, with their precision behind it.
        asking: how the model is asked, for the chat template and the end of a turn.
        source: what tells the merged weights from others; files that were made of the same are kept.

    Raises:
        UserError: llama.cpp does not know the architecture or the tokenizer, the disk has too little room, or a
            precision needs llama.cpp and it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _whole(folder, source)
    for left in (*folder.glob(".*.partial"), *folder.glob("*.gguf")):
        if left.name not in known:
            left.unlink()
    wanted = {precision: folder / _file_name(name, precision) for precision in precisions}
    due = [precision for precision in PRECISIONS if precision in wanted and wanted[precision].name not in known]
    model = _Model(name, Weights(merged), Layout(read_json(merged / "config.json"), merged), asking)
    _require_room(model.weights, folder, due)
    if "q4_k_m" in due:
        require_llama()
    for precision in due:
        target = wanted[precision]
        partial = target.with_name(f".{target.name}.partial")
        try:
            if precision == "q4_k_m":
                _make_q4(model, wanted.get("f16"), partial)
            else:
                model.write(partial, precision)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        known[target.name] = {"bytes": target.stat().st_size, "sha256": sha256_file(target), "precision": precision}
        write_json(folder / LIST_FILE, {"source": source, "files": known})
    return [GgufFile(path, precision, known[path.name]["sha256"]) for precision, path in wanted.items()]


def _file_name(name: str, precision: Precision) -> str:
    return f"{name}-{precision.upper()}.gguf"


def _whole(folder: Path, source: str) -> dict[str, Any]:
    """What is known of the files of a folder that are whole and were made of `source`, by name."""
    try:
        said = json.loads((folder / LIST_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if said.get("source") != source:
        return {}
    found = said["files"].items()
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.gguf")}
    return {name: each for name, each in found if sizes.get(name) == each["bytes"]}


def _require_room(weights: Weights, folder: Path, due: Sequence[Precision]) -> None:
    """Say before the work begins that the disk is too small for it."""
    if not due:
        return
    count = sum(math.prod(each.shape) for each in weights.values())
    needed = sum(int(count * _BITS[precision] / 8) for precision in due) + _SPARE_BYTES
    if "q4_k_m" in due and "f16" not in due:
        needed += 2 * count  # the file it is made of
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"The GGUF files need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            where=folder,
            fix="Free some space, choose another disk with --runs, or fewer files with --quantization.",
        )


def _make_q4(model: _Model, f16: Path | None, target: Path) -> None:
    """Q4_K_M from the f16 file; where none is wanted, from one that goes again."""
    if f16 is not None:
        quantise_q4_k_m(f16, target)
        return
    between = target.with_name(f".{model.name}-F16.gguf.partial")
    try:
        model.write(between, "f16")
        quantise_q4_k_m(between, target)
    finally:
        between.unlink(missing_ok=True)


class _Model:
    """What goes into each of the files.

    Raises:
        UserError: as `Vocabulary`.
    """

    def __init__(self, name: str, weights: Weights, layout: Layout, asking: Asking):
        self.name, self.weights = name, weights
        self._layout, self._asking = layout, asking
        self._vocabulary = Vocabulary(weights.folder, layout.vocabulary)

    def write(self, target: Path, precision: Literal["f16", "q8_0"]) -> None:
        """Write a file.

        Raises:
            UserError: a tensor has no place in it, or its values are too large for it.
        """
        import gguf

        types, kinds_of_file = gguf.GGMLQuantizationType, gguf.LlamaFileType
        wanted, kind_of_file = {
            "f16": (types.F16, kinds_of_file.MOSTLY_F16),
            "q8_0": (types.Q8_0, kinds_of_file.MOSTLY_Q8_0),
        }[precision]
        writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[getattr(gguf.MODEL_ARCH, self._layout.architecture)])
        # llama.cpp goes by the name "phi-3" to know that white space behind control tokens is theirs.
        writer.add_name(f"{self.name} phi-3" if self._vocabulary.strips else self.name)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(kind_of_file)
        writer.add_sampling_temp(0.0)
        self._layout.settings(writer)
        self._vocabulary.write(writer, self._asking.end, self._asking.template)

        extra, placed = self._layout.rope_tensors(), self._placed()
        shapes = {name: each.shape for name, each in placed.items()} | {
            name: each.shape for name, each in extra.items()
        }
        kinds = {name: _type_of(shape, wanted) for name, shape in shapes.items()}
        for name, shape in shapes.items():
            size = _bytes(shape, kinds[name])
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        stream = writer.fout[0]
        writer.write_padding(stream, stream.tell())
        say(f"  writing {precision} weights")
        with track("gguf", len(shapes), "tensors") as tracker:
            for number, (name, shape) in enumerate(shapes.items(), 1):
                source = placed.get(name)
                for rows in _rows(source, self._layout.order(source.name)) if source else (extra[name],):
                    _packed(name, rows, kinds[name]).tofile(stream)
                writer.write_padding(stream, _bytes(shape, kinds[name]))
                tracker.update(number)
        writer.close()

    def _placed(self) -> dict[str, Tensor]:
        """The tensors by their names in the file."""
        named = {self._layout.name(each.name): each for each in self.weights.values()}
        return {name: each for name, each in named.items() if name is not None}


def _rows(tensor: Tensor, order: npt.NDArray[np.intp] | None) -> Iterator[npt.NDArray[np.float32]]:
    """A tensor's rows, some at a time.

    Args:
        order: the order in which they are wanted; None: as they stand.
    """
    step = max(_SLICE // math.prod(tensor.shape[1:]), 1)
    for start in range(0, tensor.shape[0], step):
        rows = slice(start, start + step)
        yield tensor.float32(rows if order is None else order[rows])


def _packed(name: str, rows: npt.NDArray[np.float32], kind: Any) -> npt.NDArray[Any]:
    """Rows in the type of the file.

    Raises:
        UserError: they are no numbers there: float16 ends at 65,504, bfloat16 does not.
    """
    import gguf

    with np.errstate(over="ignore"):
        packed: npt.NDArray[Any] = gguf.quantize(rows, kind)
    if packed.dtype == np.float16 and not np.isfinite(packed).all():
        raise UserError(f"The weights {name} are too large for float16.", fix="Write q8_0 alone: its scales are fine.")
    return packed


def _type_of(shape: Sequence[int], wanted: Any) -> Any:
    """In which type a tensor is written: vectors stay in float32, and rows that no block of 32 fits in float16."""
    import gguf

    types = gguf.GGMLQuantizationType
    if len(shape) < 2:
        return types.F32
    return types.F16 if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] else wanted


def _bytes(shape: Sequence[int], kind: Any) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(math.prod(shape) // block * size)
