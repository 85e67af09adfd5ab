"""What a bundle's weights run in: ONNX Runtime GenAI, one request after the other; OpenVINO or vLLM, many at once, with
the adapter merged or beside its base. An encoder runs in OpenVINO or ONNX Runtime, one pass a request; a linear model
in numpy."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.inference.decoding.protocols import WritingModel
from tunewright.models.architectures import VLLM_ONLY, unsupported
from tunewright.models.files import loading, read_object
from tunewright.models.linear_model import LINEAR
from tunewright.models.tokenizer import TextTokenizer

RuntimeName = Literal[
    "onnxruntime", "openvino", "openvino-lora", "vllm", "vllm-lora", "openvino-encoder", "onnxruntime-encoder", "linear"
]

FOLDERS: dict[RuntimeName, str] = {
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "openvino-lora": "openvino",
    "vllm": "vllm",
    "vllm-lora": "vllm",
    "openvino-encoder": "openvino-encoder",
    "onnxruntime-encoder": "onnx-encoder",
    "linear": "linear",
}
"""Where a bundle has its weights."""
ENGINES: dict[RuntimeName, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "openvino-lora": "openvino",
    "vllm": "vllm",
    "vllm-lora": "vllm",
    "openvino-encoder": "openvino",
    "onnxruntime-encoder": "onnxruntime",
    "linear": "linear",
}
"""What it runs in, which is what `tunewright serve --engine` and the images are called by."""
ADAPTER_FOLDER = "adapter"
"""Where it has an adapter that is not merged into them."""
_X86 = ("x86_64", "AMD64")


def is_of_encoder(name: RuntimeName) -> bool:
    """Whether an encoder runs there."""
    return name.endswith("-encoder")


def is_classifier(name: RuntimeName) -> bool:
    """Whether what runs there chooses a label and writes nothing: an encoder, or a linear model."""
    return name == LINEAR or is_of_encoder(name)


def encoder_runtime(wanted: str) -> RuntimeName:
    """What an encoder is served with.

    Args:
        wanted: as `export.runtime` says it; auto: OpenVINO on an x86, which it is the faster on.

    Raises:
        UserError: it is none that runs encoders.
    """
    if wanted not in ("auto", "openvino", "onnxruntime"):
        raise UserError(
            f"An encoder is not served with {wanted}.",
            where="export.runtime",
            fix="Set export.runtime=openvino, or onnxruntime.",
        )
    if wanted == "auto":
        wanted = "openvino" if platform.machine() in _X86 else "onnxruntime"
    return "openvino-encoder" if wanted == "openvino" else "onnxruntime-encoder"


def require_encoder_precision(precision: str) -> None:
    """Refuse what an encoder's weights are not served in.

    Raises:
        UserError: it is neither int8 nor fp32.
    """
    if precision not in ("int8", "fp32"):
        raise UserError(
            f"An encoder's weights are not served in {precision}.",
            where="export.precision",
            why="They are small, and four bits lose too much of them.",
            fix="Set export.precision=int8, or fp32.",
        )


def best_runtime(model: Path) -> RuntimeName:
    """What a model is served fastest with on this machine's processor; vLLM where nothing else knows its type."""
    config = read_object(model / "config.json")
    if config.get("model_type") in VLLM_ONLY:
        return "vllm"
    known = unsupported(config) is None
    return "openvino" if known and platform.machine() in _X86 else "onnxruntime"


def runtime_in(folder: Path) -> RuntimeName:
    """What the weights in the folder of a bundle are for."""
    beside = (folder / ADAPTER_FOLDER).is_dir()
    return next(
        name for name, weights in FOLDERS.items() if (folder / weights).is_dir() and name.endswith("-lora") == beside
    )


class Loaded(Protocol):
    @property
    def at_once(self) -> int:
        """Sequences that may be asked for at the same time, each from a thread of its own."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has gone, and answers nothing any more."""
        ...


class NextTokenRuntime(Loaded, Protocol):
    """A `tunewright.tasks.NextTokenModel` that is loaded."""

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]: ...

    def many(self, sequences: Sequence[Sequence[int]]) -> Sequence[npt.NDArray[np.float32]]: ...


class WritingRuntime(Loaded, WritingModel, Protocol):
    """A model that is not asked token by token, in a process of its own."""


@runtime_checkable
class ClassifyingRuntime(Loaded, Protocol):
    """An encoder or a linear model that is loaded."""

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """Of all labels, for each of several texts."""
        ...


Runtime = NextTokenRuntime | WritingRuntime | ClassifyingRuntime


def load_runtime(
    name: RuntimeName,
    folder: Path,
    *,
    context: int,
    threads: int | None = None,
    streams: int = 1,
    tokenizer: TextTokenizer | None = None,
) -> Runtime:
    """Load weights.

    Args:
        folder: of the bundle's files, or of an export's.
        context: tokens that a sequence may have.
        threads: CPU threads; all cores by default.
        streams: of OpenVINO, passes side by side; see `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
        tokenizer: an encoder's, where it is loaded already.

    Raises:
        UserError: they can't be loaded.
    """
    with loading(folder / FOLDERS[name], "The weights"):
        return _load(name, folder, context, threads, streams, tokenizer)


def _load(
    name: RuntimeName, folder: Path, context: int, threads: int | None, streams: int, tokenizer: TextTokenizer | None
) -> Runtime:
    weights = folder / FOLDERS[name]
    if is_of_encoder(name):
        from tunewright.inference.runtimes.beside import Beside
        from tunewright.inference.runtimes.encoder_model import EncoderModel

        beside = Beside.load(weights, tokenizer or folder)
        return EncoderModel(weights, context=context, threads=threads, beside=beside)
    if name == LINEAR:
        from tunewright.models.linear_model import LinearModel

        return LinearModel.load(weights)
    if name in ("vllm", "vllm-lora"):
        from tunewright.inference.runtimes.vllm_model import VllmModel

        return VllmModel(weights, context=context, adapter=folder / ADAPTER_FOLDER if name == "vllm-lora" else None)
    if name != "onnxruntime":
        from tunewright.inference.runtimes.openvino.adapter import load_adapter
        from tunewright.inference.runtimes.openvino.model import PagedNextToken

        adapter = load_adapter(folder / ADAPTER_FOLDER) if name == "openvino-lora" else None
        return PagedNextToken(weights, context=context, threads=threads, streams=streams, adapter=adapter)
    from tunewright.inference.runtimes.ort_model import OrtNextToken

    return OrtNextToken(weights, context=context, threads=threads)
