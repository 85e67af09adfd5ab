"""Runs a tuned encoder without torch: one forward pass from token ids to the logits of the labels.

A text gets the same logits whatever else is in its pass, because nothing is padded. Our own kernels take texts of any
lengths. In OpenVINO the texts of a pass have the same length, so many are grouped by length; a pass has at most
`AT_ONCE` of them, and in ONNX Runtime one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads as default_threads
from tunewright.inference.runtimes.beside import Beside
from tunewright.inference.runtimes.vnni.encoder import GROUP, VnniEncoder

OPENVINO, ONNX = "model.xml", "model.onnx"
"""The file of the graph in a bundle's folder of weights."""
INPUT = "input_ids"
"""The graph's input: [texts, tokens], int64."""
AT_ONCE = 64
"""Texts in one pass."""


class EncoderModel:
    """The logits of token ids. Thread-safe: one pass after the other, or in our own kernels one in each thread.

    Args:
        folder: the graph's folder.
        context: tokens that a text may have.
        threads: CPU threads; all cores by default.
        beside: a linear model whose logits are added.
    """

    ended = False

    def __init__(self, folder: Path, *, context: int, threads: int | None = None, beside: Beside | None = None):
        self._context, self._beside = context, beside
        is_openvino = (folder / OPENVINO).is_file()
        kernels = VnniEncoder.load(folder / OPENVINO, context, threads or default_threads()) if is_openvino else None
        self.at_once: int = kernels.threads if kernels else 1
        """Requests that it answers at the same time."""
        self._logits = kernels.logits if kernels else _Grouped((_openvino if is_openvino else _onnx)(folder, threads))

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """The logits [labels] of each text. They don't depend on the other texts.

        Raises:
            ValueError: a text is longer than the context.
        """
        if (longest := max(map(len, sequences), default=0)) > self._context:
            raise ValueError(f"a text of {longest} tokens, longer than {self._context}")
        rows = self._logits(sequences)
        if self._beside:
            rows = [row + more for row, more in zip(rows, self._beside.logits(sequences), strict=True)]
        return rows


class _Grouped:
    """The logits of texts in passes of one length each.

    Args:
        run: token ids [texts, tokens] -> logits.
    """

    def __init__(self, run: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]):
        self._pass, self._lock = run, threading.Lock()

    def __call__(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        rows: list[Any] = [None] * len(sequences)
        for numbers in _passes(sequences):
            ids = np.array([sequences[number] for number in numbers], np.int64)
            with self._lock:
                logits = self._pass(ids)
            for number, row in zip(numbers, logits, strict=True):
                rows[number] = row
        return rows


def _passes(sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of the texts of each pass: texts of the same length."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(sequences):
        by_length[len(ids)].append(number)
    for numbers in by_length.values():
        for start in range(0, len(numbers), AT_ONCE):
            yield numbers[start : start + AT_ONCE]


def _openvino(folder: Path, threads: int | None) -> Any:
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP),
        "NUM_STREAMS": "1",
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
        settings["ENABLE_CPU_PINNING"] = "NO"  # OpenVINO would pin parallel processes to the same cores
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
        # One by one: the order of its sums depends on the number of rows, so the last bits would depend on the batch.
        return np.concatenate([session.run(None, {INPUT: text[None]})[0] for text in ids])

    return run
