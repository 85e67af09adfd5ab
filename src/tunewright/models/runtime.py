"""What a bundle's weights run in: ONNX Runtime GenAI, one request after the other, or OpenVINO, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

RuntimeName = Literal["onnxruntime", "openvino"]

FOLDERS: dict[RuntimeName, str] = {"onnxruntime": "onnx", "openvino": "openvino"}
"""Where a bundle has its weights."""


class Runtime(Protocol):
    """A `tunewright.tasks.NextTokenModel` that is loaded."""

    at_once: int
    """Sequences that may be asked for at the same time, each from a thread of its own."""

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]: ...


def load_runtime(name: RuntimeName, folder: Path, *, context: int, threads: int | None = None) -> Runtime:
    """Load weights.

    Args:
        folder: of the bundle's files, or of an export's.
        context: tokens that a sequence may have.
        threads: CPU threads; all cores by default.
    """
    weights = folder / FOLDERS[name]
    if name == "openvino":
        from tunewright.models.paged_model import PagedNextToken

        return PagedNextToken(weights, context=context, threads=threads)
    from tunewright.models.ort_model import OrtNextToken

    return OrtNextToken(weights, context=context, threads=threads)
