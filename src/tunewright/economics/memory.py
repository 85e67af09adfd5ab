"""Main memory that a step holds at its peak, in bytes, from the sizes of its model.

`python bench/true_size.py` measures these figures at the true shapes of Phi-3-mini, Mistral-7B and Llama-3-8B; where
one changes, it is corrected here and nowhere else. Pages of mapped files are not counted, because they can be evicted.
"""

from __future__ import annotations

from tunewright.models.sizes import Sizes

GIB = 2**30
STREAMING = 0.3 * GIB
"""Python and the libraries of a step that works tensor by tensor, from safetensors to safetensors."""
MATRICES = 2
"""Copies of the largest matrix that is turned as a whole, in float32: as it is read, and turned. Of all others a few
rows are held."""
ONNX_BUILDER = 0.4
"""Bytes for each parameter that onnxruntime-genai's model builder holds besides."""
TRAINER = 600e6
"""Python, torch and the training libraries, without a model (`python bench/plan.py`)."""
SERVER = 0.35 * GIB
"""A server with its runtime, without weights."""
COPIES = 1.05
"""Bytes of a server for each byte of quantised weights: what is not shared with the mapped file."""
KEYS_AND_VALUES = 256 * 2**20
"""What OpenVINO's blocks of keys and values take, if two contexts do not need more
(`inference/runtimes/openvino/network.py`)."""
CONTEXTS = 2
TORCH = 1.5 * GIB
"""Python, torch and the activations of a packed batch, where a candidate is asked in torch."""
CUDA = 0.4 * GIB
"""The CUDA context with the libraries' kernels, of what CUDA reports of a GPU; an assumption."""
INT8_ROW = 5
"""Bytes of scale and zero point of an output of a matrix in int8."""
INT4 = 0.578
"""Bytes of a number in int4, with scale and zero point of its group of 64."""
TOUCHY = 0.15
"""Share of the layers' numbers that int4 keeps in int8: values and down projections of half of the layers."""
NF4 = 0.53
"""Bytes of a number in NF4, with its doubly quantised scale."""

_BYTES = {"16-bit": 2, "bfloat16": 2, "float16": 2, "fp32": 4, "float32": 4}


def weights(sizes: Sizes, precision: str) -> float:
    """Bytes of a model's weights.

    Args:
        precision: "int8" or "int4" as OpenVINO's bundle has them, "nf4", "16-bit", "fp32", or torch's name of a type.
    """
    if sizes.kind == "encoder":  # int4 loses too much of one, so it is refused
        return (4.0 if precision in ("fp32", "float32") else 2.0 if precision == "16-bit" else 1.0) * sizes.parameters
    inner = sizes.parameters - sizes.vocabulary
    ends = 2 * sizes.embedding  # turning the weights makes two matrices of tied ones
    match precision:
        case "int8":
            return ends + inner + INT8_ROW * sizes.rows
        case "int4":
            return ends + inner * (TOUCHY + (1 - TOUCHY) * INT4) + INT8_ROW * sizes.rows
        case "nf4":
            return 2 * sizes.vocabulary + NF4 * inner
        case _:
            return float(_BYTES[precision] * sizes.parameters)


def merging(sizes: Sizes) -> float:
    """Adapter and base become one, or weights are turned and quantised, shard by shard."""
    return STREAMING + MATRICES * 4 * sizes.written


def building(sizes: Sizes, runtime: str) -> float:
    """The weights of a bundle are made.

    Args:
        runtime: of `tunewright.inference.runtimes.base.RuntimeName`.
    """
    return merging(sizes) + (ONNX_BUILDER * sizes.parameters if runtime == "onnxruntime" else 0)


def serving(sizes: Sizes, precision: str, context: float) -> float:
    """A server on a CPU.

    Args:
        context: tokens that a sequence may have.
    """
    if sizes.kind == "encoder":
        return SERVER + COPIES * weights(sizes, precision)
    return server(weights(sizes, precision), context * 2 * sizes.cache)


def server(weights: float, context: float) -> float:
    """A server of weights that were written already.

    Args:
        weights: bytes of their files.
        context: bytes of a context's keys and values, in 16 bits.
    """
    return SERVER + COPIES * weights + max(KEYS_AND_VALUES, CONTEXTS * context)


def evaluating(sizes: Sizes, *, nf4: bool, half: bool) -> float:
    """A candidate is asked in torch on a CPU.

    Args:
        nf4: its base is held in NF4; otherwise its weights are mapped and computed layer by layer.
        half: the CPU computes in bfloat16; otherwise in float32.
    """
    number = 2 if half else 4
    if nf4:
        return TORCH + weights(sizes, "nf4") + number * sizes.layer
    return TORCH + number * (2 * sizes.layer + sizes.vocabulary)


def on_gpu(sizes: Sizes, *, nf4: bool, context: float) -> float:
    """A candidate is asked in torch on a GPU, one prompt at a time: bytes of the GPU's memory.

    Args:
        context: tokens of a prompt with its answer.
    """
    return CUDA + weights(sizes, "nf4" if nf4 else "16-bit") + context * 2 * sizes.cache
