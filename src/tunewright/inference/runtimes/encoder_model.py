"""Running a tuned encoder without torch: one pass from token ids to the logits of the labels.

Texts of one pass are equally long, so nothing is filled up, and a text gets the same logits whoever else is in its
pass. Many texts are sorted by length and read in passes; in each, `AT_ONCE` at most, and in ONNX Runtime one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.beside import Beside

# OpenVINO's package tells Google Analytics that it is imported; without this module it has a stub that does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# ONNX Runtime tells Microsoft how it is used, unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

OPENVINO, ONNX = "model.xml", "model.onnx"
"""The file of the graph in a bundle's folder of weights."""
INPUT = "input_ids"
"""Of the graph: [texts, tokens], int64."""
AT_ONCE = 64
"""Texts in one pass."""
_GROUP = 64
"""Inputs of a matrix that are quantised together as they come in: of 384, all at once are no faster and lose twice as
much (all-MiniLM-L6, BANKING77)."""


class EncoderModel:
    """Logits of token ids; thread-safe, one pass after the other.

    Args:
        folder: of the graph.
        context: tokens that a text may have.
        threads: CPU threads; all cores by default.
        beside: whose logits are added.
    """

    at_once = 1
    ended = False

    def __init__(self, folder: Path, *, context: int, threads: int | None = None, beside: Beside | None = None):
        self._context, self._beside = context, beside
        self._pass = _openvino(folder, threads) if (folder / OPENVINO).is_file() else _onnx(folder, threads)
        self._alone = threading.Lock()

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """Those [labels] of several texts, each as if it were alone.

        Raises:
            ValueError: one is longer than the context.
        """
        if (longest := max(map(len, sequences), default=0)) > self._context:
            raise ValueError(f"a text of {longest} tokens, longer than {self._context}")
        found: list[Any] = [None] * len(sequences)
        for numbers in _passes(sequences):
            ids = np.array([sequences[number] for number in numbers], np.int64)
            with self._alone:
                logits = self._pass(ids)
            for number, row in zip(numbers, logits, strict=True):
                found[number] = row
        if self._beside:
            found = [row + more for row, more in zip(found, self._beside.logits(sequences), strict=True)]
        return found


def _passes(sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of the texts that are read together: equally long ones."""
    alike: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(sequences):
        alike[len(ids)].append(number)
    for numbers in alike.values():
        for start in range(0, len(numbers), AT_ONCE):
            yield numbers[start : start + AT_ONCE]


def _openvino(folder: Path, threads: int | None) -> Any:
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP),
        "NUM_STREAMS": "1",
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
        settings["ENABLE_CPU_PINNING"] = "NO"  # processes side by side would all be pinned to the same cores
    request = ov.Core().compile_model(str(folder / OPENVINO), "CPU", settings).create_infer_request()

    def run(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        request.infer({INPUT: ids})
        return np.array(request.get_output_tensor().data)

    return run


def _onnx(folder: Path, threads: int | None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])

    def run(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        # One by one: its kernels sum otherwise for other numbers of rows, so the last bits would hang on who is beside.
        return np.concatenate([session.run(None, {INPUT: text[None]})[0] for text in ids])

    return run
