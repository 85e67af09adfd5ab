"""Peak main memory of a step, in bytes, from the sizes of its model.

`python bench/true_size.py` measures these figures at the true shapes of Phi-3-mini, Mistral-7B and Llama-3-8B. Correct
a figure here and nowhere else. Pages of mapped files do not count, because they can be evicted.
"""

from __future__ import annotations

from tunewright.models.sizes import Sizes

GIB = 2**30
STREAMING = 0.3 * GIB
"""Python and the libraries of a step that works tensor by tensor, from safetensors to safetensors."""
MATRICES = 2
"""Copies in float32 of the largest matrix that is rotated as a whole: as read, and rotated. Of all other matrices only
a few rows are held."""
ONNX_BUILDER = 0.4
"""Further bytes for each parameter that onnxruntime-genai's model builder holds."""
TRAINER = 600e6
"""Python, torch and the training libraries, without a model (`python bench/plan.py`)."""
SERVER = 0.35 * GIB
"""A server with its runtime, without weights."""
COPIES = 1.05
"""Bytes of a server for each byte of quantised weights: the memory not shared with the mapped file."""
KEYS_AND_VALUES = 256 * 2**20
"""Bytes of OpenVINO's blocks of keys and values, if two contexts do not need more
(`inference/runtimes/openvino/network.py`)."""
CONTEXTS = 2
TORCH = 1.5 * GIB
"""Python, torch and the activations of a packed batch, where a candidate runs in torch."""
CUDA = 0.4 * GIB
"""The CUDA context with the libraries' kernels, part of the memory that CUDA reports for a GPU; an assumption."""
INT8_ROW = 5
"""Bytes of scale and zero point of an output of a matrix in int8."""
INT4 = 0.578
"""Bytes of a number in int4, with scale and zero point of its group of 64."""
SENSITIVE = 0.15
"""Share of the layers' numbers that int4 keeps in int8: values and down projections of half of the layers."""
NF4 = 0.53
"""Bytes of a number in NF4, with its doubly quantised scale."""

_BYTES = {"16-bit": 2, "bfloat16": 2, "float16": 2, "fp32": 4, "float32": 4}


def weights(sizes: Sizes, precision: str) -> float:
    """Bytes of a model's weights.

    Args:
        precision: "int8" or "int4" as in OpenVINO's bundle, "nf4", "16-bit", "fp32", or torch's name of a type.
    """
    if sizes.kind == "encoder":  # int4 is refused for encoders, because they lose too much
        return (4.0 if precision in ("fp32", "float32") else 2.0 if precision == "16-bit" else 1.0) * sizes.parameters
    inner = sizes.parameters - sizes.vocabulary
    ends = 2 * sizes.embedding  # rotating the weights makes two matrices out of tied ones
    match precision:
        case "int8":
            return ends + inner + INT8_ROW * sizes.rows
        case "int4":
            return ends + inner * (SENSITIVE + (1 - SENSITIVE) * INT4) + INT8_ROW * sizes.rows
        case "nf4":
            return 2 * sizes.vocabulary + NF4 * inner
        case _:
            return float(_BYTES[precision] * sizes.parameters)


def merging(sizes: Sizes) -> float:
    """Memory to merge adapter and base, or to rotate and quantise weights, shard by shard."""
    return STREAMING + MATRICES * 4 * sizes.written


def building(sizes: Sizes, runtime: str) -> float:
    """Memory to make the weights of a bundle.

    Args:
        runtime: a `tunewright.inference.runtimes.base.RuntimeName`.
    """
    return merging(sizes) + (ONNX_BUILDER * sizes.parameters if runtime == "onnxruntime" else 0)


def serving(sizes: Sizes, precision: str, context: float) -> float:
    """Memory of a server on a CPU.

    Args:
        context: tokens that a sequence may have.
    """
    if sizes.kind == "encoder":
        return SERVER + COPIES * weights(sizes, precision)
    return server(weights(sizes, precision), context * 2 * sizes.cache)


def server(weights: float, context: float) -> float:
    """Memory of a server for existing weight files.

    Args:
        weights: bytes of their files.
        context: bytes of a context's keys and values, in 16 bits.
    """
    return SERVER + COPIES * weights + max(KEYS_AND_VALUES, CONTEXTS * context)


def evaluating(sizes: Sizes, *, nf4: bool, half: bool) -> float:
    """Memory to ask a candidate in torch on a CPU.

    Args:
        nf4: whether its base is held in NF4; otherwise its weights are mapped and computed layer by layer.
        half: whether the CPU computes in bfloat16; otherwise in float32.
    """
    number = 2 if half else 4
    if nf4:
        return TORCH + weights(sizes, "nf4") + number * sizes.layer
    return TORCH + number * (2 * sizes.layer + sizes.vocabulary)


def on_gpu(sizes: Sizes, *, nf4: bool, context: float) -> float:
    """GPU memory to ask a candidate in torch, one prompt at a time.

    Args:
        context: tokens of a prompt with its answer.
    """
    return CUDA + weights(sizes, "nf4" if nf4 else "16-bit") + context * 2 * sizes.cache
