"""The runtimes of a bundle's weights, and loading them.

ONNX Runtime GenAI runs one request after the other. OpenVINO and vLLM run many at once, with the adapter merged or
beside its base. An encoder runs in OpenVINO or ONNX Runtime, one forward pass a request. A linear model runs in numpy.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.core.threads import limited
from tunewright.inference.decoding.protocols import WritingModel
from tunewright.models.architectures import VLLM_ONLY, unsupported
from tunewright.models.files import loading, read_object
from tunewright.models.linear_model import LINEAR
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.label_trie import BranchModel

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
"""The folder of the weights in a bundle."""
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
"""The engine of each runtime, as `tunewright serve --engine` and the images name it."""
ADAPTER_FOLDER = "adapter"
"""The folder of an adapter that is not merged into the weights."""
_X86 = ("x86_64", "AMD64")


def is_of_encoder(name: RuntimeName) -> bool:
    """Whether it runs encoders."""
    return name.endswith("-encoder")


def is_classifier(name: RuntimeName) -> bool:
    """Whether it runs models that choose labels and write nothing: encoders and linear models."""
    return name == LINEAR or is_of_encoder(name)


def encoder_runtime(setting: str) -> RuntimeName:
    """The runtime of an encoder.

    Args:
        setting: the value of `export.runtime`; auto: OpenVINO on an x86 processor, where it is faster.

    Raises:
        UserError: the setting names a runtime that doesn't run encoders.
    """
    if setting not in ("auto", "openvino", "onnxruntime"):
        raise UserError(
            f"{setting} doesn't serve encoders.",
            where="export.runtime",
            fix="Set export.runtime=openvino, or onnxruntime.",
        )
    if setting == "auto":
        setting = "openvino" if platform.machine() in _X86 else "onnxruntime"
    return "openvino-encoder" if setting == "openvino" else "onnxruntime-encoder"


def require_encoder_precision(precision: str) -> None:
    """Refuse a precision in which we don't serve encoders.

    Raises:
        UserError: the precision is neither int8 nor fp32.
    """
    if precision not in ("int8", "fp32"):
        raise UserError(
            f"An encoder can't be served in {precision}.",
            where="export.precision",
            why="Its weights are small: in four bits they lose too much, and there is no graph of them in 16 bits.",
            fix="Set export.precision=int8, or fp32.",
        )


def best_runtime(model: Path) -> RuntimeName:
    """The fastest runtime for a model on this machine's processor; vLLM if no other runtime supports its type."""
    config = read_object(model / "config.json")
    if config.get("model_type") in VLLM_ONLY:
        return "vllm"
    known = unsupported(config) is None
    return "openvino" if known and platform.machine() in _X86 else "onnxruntime"


def runtime_in(folder: Path) -> RuntimeName:
    """The runtime of the weights in a bundle's folder."""
    beside = (folder / ADAPTER_FOLDER).is_dir()
    return next(
        name for name, weights in FOLDERS.items() if (folder / weights).is_dir() and name.endswith("-lora") == beside
    )


class Loaded(Protocol):
    @property
    def at_once(self) -> int:
        """Sequences that may run at the same time, each from its own thread."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the model has ended and answers nothing any more."""
        ...


class NextTokenRuntime(Loaded, BranchModel, Protocol):
    """A loaded `tunewright.tasks.NextTokenModel`."""

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]: ...


class WritingRuntime(Loaded, WritingModel, Protocol):
    """A model in its own process that generates whole answers."""


@runtime_checkable
class ClassifyingRuntime(Loaded, Protocol):
    """A loaded encoder or linear model."""

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """The logits of all labels for each text."""
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
        folder: the folder of a bundle or of an export.
        context: tokens that a sequence may have.
        threads: CPU threads; by default all cores, or as many as a CPU quota allows.
        streams: parallel passes in OpenVINO; see `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
        tokenizer: an encoder's tokenizer, if it is loaded already.

    Raises:
        UserError: the weights can't be loaded.
    """
    with loading(folder / FOLDERS[name], "The weights"):
        return _load(name, folder, context, threads or limited(), streams, tokenizer)


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
