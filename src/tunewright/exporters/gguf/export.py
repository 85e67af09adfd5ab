"""GGUF files of a merged model, for llama.cpp, Ollama and programs built on them.

This module writes f16 and Q8_0 from mapped safetensors, a few rows at a time, so memory does not grow with the model.
llama.cpp's own quantizer, which knows the layers that need more bits, makes Q4_K_M from f16
(`tunewright.exporters.gguf.llama`). A file has another name until it is complete.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
"""The list beside the files: which of them are complete, and their source."""
_BITS: Mapping[Precision, float] = {"f16": 16, "q8_0": 8.5, "q4_k_m": 6.5}
"""The most bits a weight: small models have a larger share of layers with more bits."""
_DESCRIPTIONS: Mapping[Precision, str] = {
    "f16": "16 bits, the merged weights as they are",
    "q8_0": "8 bits, in blocks of 32 values",
    "q4_k_m": "4 to 6 bits, by llama.cpp's quantizer without a calibration text",
}
_SERVED_FIRST: tuple[Precision, ...] = ("q8_0", "q4_k_m", "f16")
"""Order of preference of the file that Ollama serves."""
_SLICE = 1 << 24
"""Values converted at once: 64 MiB as float32."""
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class GgufFile:
    path: Path
    precision: Precision
    sha256: str


def export_gguf(
    spec: Spec, exported: Path, source: str, folder: Path, precisions: Sequence[Precision]
) -> list[GgufFile]:
    """Write the GGUF files of a run, with a Modelfile for Ollama, the system prompt and a card beside them.

    Args:
        exported: the output of the step `export`.
        source: as in `write_gguf`.

    Raises:
        UserError: as in `write_gguf` and `tunewright.exporters.gguf.ollama.modelfile`.
    """
    bundle, merged = load_bundle(exported / "bundle"), exported / "merged"
    asking = _within_llama_cpp(asking_in(merged, bundle), merged)
    name = _file_name(spec.name, _SERVED_FIRST[min(map(_SERVED_FIRST.index, precisions))])
    end = bundle.tokenizer.decode([asking.end])
    served = modelfile(name, asking, end, special_tokens(merged), confined_only=confined_only(spec))
    files = write_gguf(merged, folder, spec.name, precisions, asking, source)
    descriptions = {
        each.path.name: f"{each.path.stat().st_size / 1e6:.0f} MB, {_DESCRIPTIONS[each.precision]}" for each in files
    }
    beside = {"Modelfile": served, SYSTEM_PROMPT: asking.system, "README.md": card(spec, asking, "gguf", descriptions)}
    if asking.choices:
        beside[GRAMMAR] = asking.grammar
    for file, text in beside.items():
        (folder / file).write_text(text, "utf-8")
    return files


def _within_llama_cpp(asking: Asking, merged: Path) -> Asking:
    """How to ask the merged model in llama.cpp: with a context up to which it computes what the model does."""
    longest = Layout(read_json(merged / "config.json"), merged).context
    if longest < asking.context:
        say(f"  llama.cpp computes what this model does for up to {longest} tokens, so the context ends there")
    return replace(asking, context=min(asking.context, longest))


def write_gguf(
    merged: Path, folder: Path, name: str, precisions: Sequence[Precision], asking: Asking, source: str
) -> list[GgufFile]:
    """Bring the GGUF files of a merged model up to date in a folder.

    Args:
        merged: the Hugging Face folder that `export` writes.
        name: the model's name; the files' names are this and their precision.
        asking: how to ask the model, for the chat template and the end of a turn.
        source: an id of the merged weights; files made from the same source are kept.

    Raises:
        UserError: llama.cpp does not know the architecture or the tokenizer, the disk has too little space, or a
            precision needs llama.cpp and it is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _whole(folder, source)
    for left in (*folder.glob(".*.partial"), *folder.glob("*.gguf")):
        if left.name not in known:
            left.unlink()
    targets = {precision: folder / _file_name(name, precision) for precision in precisions}
    due = [precision for precision in PRECISIONS if precision in targets and targets[precision].name not in known]
    model = _Model(name, Weights(merged), Layout(read_json(merged / "config.json"), merged), asking)
    _require_room(model.weights, folder, due)
    if "q4_k_m" in due:
        require_llama()
    for precision in due:
        target = targets[precision]
        partial = target.with_name(f".{target.name}.partial")
        try:
            if precision == "q4_k_m":
                _make_q4(model, targets.get("f16"), partial)
            else:
                model.write(partial, precision)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        known[target.name] = {"bytes": target.stat().st_size, "sha256": sha256_file(target), "precision": precision}
        write_json(folder / LIST_FILE, {"source": source, "files": known})
    return [GgufFile(path, precision, known[path.name]["sha256"]) for precision, path in targets.items()]


def _file_name(name: str, precision: Precision) -> str:
    return f"{name}-{precision.upper()}.gguf"


def _whole(folder: Path, source: str) -> dict[str, Any]:
    """The list's entries by name, for the complete files of a folder that were made from `source`."""
    try:
        listed = json.loads((folder / LIST_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if listed.get("source") != source:
        return {}
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.gguf")}
    return {name: each for name, each in listed["files"].items() if sizes.get(name) == each["bytes"]}


def _require_room(weights: Weights, folder: Path, due: Sequence[Precision]) -> None:
    """Check that the disk has enough space before the work begins.

    Raises:
        UserError: it has not.
    """
    if not due:
        return
    count = sum(math.prod(each.shape) for each in weights.values())
    needed = sum(int(count * _BITS[precision] / 8) for precision in due) + _SPARE_BYTES
    if "q4_k_m" in due and "f16" not in due:
        needed += 2 * count  # the f16 file from which it is made
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"The GGUF files need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            where=folder,
            fix="Free some space, choose another disk with --runs, or fewer files with --quantization.",
        )


def _make_q4(model: _Model, f16: Path | None, target: Path) -> None:
    """Make Q4_K_M from the f16 file, or from a temporary one where there is none."""
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
    """The content of the files.

    Raises:
        UserError: as in `Vocabulary`.
    """

    def __init__(self, name: str, weights: Weights, layout: Layout, asking: Asking):
        self.name, self.weights = name, weights
        self._layout, self._asking = layout, asking
        self._vocabulary = Vocabulary(weights.folder, layout.vocabulary)

    def write(self, target: Path, precision: Literal["f16", "q8_0"]) -> None:
        """Write a file.

        Raises:
            UserError: the format has no place for a tensor, or its values are too large.
        """
        import gguf

        types, kinds_of_file = gguf.GGMLQuantizationType, gguf.LlamaFileType
        weight_type, kind_of_file = {
            "f16": (types.F16, kinds_of_file.MOSTLY_F16),
            "q8_0": (types.Q8_0, kinds_of_file.MOSTLY_Q8_0),
        }[precision]
        writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[getattr(gguf.MODEL_ARCH, self._layout.architecture)])
        # By the name "phi-3" llama.cpp knows that white space behind control tokens belongs to them.
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
        kinds = {name: _type_of(shape, weight_type) for name, shape in shapes.items()}
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
    """A tensor's rows, a few at a time.

    Args:
        order: the order of the rows in the file; None: unchanged.
    """
    step = max(_SLICE // math.prod(tensor.shape[1:]), 1)
    for start in range(0, tensor.shape[0], step):
        rows = slice(start, start + step)
        yield tensor.float32(rows if order is None else order[rows])


def _packed(name: str, rows: npt.NDArray[np.float32], kind: Any) -> npt.NDArray[Any]:
    """Rows in the type of the file.

    Raises:
        UserError: they overflow: float16 ends at 65,504, bfloat16 does not.
    """
    import gguf

    with np.errstate(over="ignore"):
        packed: npt.NDArray[Any] = gguf.quantize(rows, kind)
    if packed.dtype == np.float16 and not np.isfinite(packed).all():
        raise UserError(f"The weights {name} are too large for float16.", fix="Write q8_0 alone: its scales are fine.")
    return packed


def _type_of(shape: Sequence[int], weight_type: Any) -> Any:
    """The type of a tensor in the file: vectors are float32, and rows that blocks of 32 don't divide are float16."""
    import gguf

    types = gguf.GGMLQuantizationType
    if len(shape) < 2:
        return types.F32
    return types.F16 if shape[-1] % gguf.GGML_QUANT_SIZES[weight_type][0] else weight_type


def _bytes(shape: Sequence[int], kind: Any) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(math.prod(shape) // block * size)
