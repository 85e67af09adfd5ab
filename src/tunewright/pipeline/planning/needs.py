"""The memory and the disk space that each step needs, from the spec and the model's sizes; no data are read."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.economics import memory
from tunewright.economics.machines import VLLM_ACTIVATIONS
from tunewright.economics.memory import GIB
from tunewright.inference.runtimes import VLLM_SHARE
from tunewright.inference.runtimes.base import encoder_runtime
from tunewright.models.architectures import unsupported
from tunewright.models.linear_model import LINEAR
from tunewright.models.sizes import Sizes
from tunewright.pipeline.planning.machines import Machine
from tunewright.pipeline.steps import Step, resolve

DATA = 0.5 * GIB
"""Steps that read the data: Python, the libraries, and some hundred thousand rows of 350 bytes each."""
SMALL = 0.4 * GIB
"""Steps without a model."""
CLIENT = 0.3 * GIB
"""The client process of a step that calls a server."""
_ADAM = 8
"""Bytes of AdamW's moments per trained parameter, beside 4 for the parameter and 4 for its gradient."""

ADAM_TRAINED = 16
"""Bytes per parameter trained in float32: itself, its gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Need:
    """The resources that a step needs, in bytes."""

    memory: float
    """Peak main memory."""
    because: str
    """The largest part of it, as the end of a sentence."""
    gpu: float = 0.0
    """GPU memory."""
    gpu_because: str = ""
    disk: float = 0.0
    """Weights that the step writes and leaves; other files are small."""


_FITTED = Need(DATA, "a linear model is fitted to all rows at once")


def need_of(step: Step, spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    """The least resources that a step needs; see `Step.memory`."""
    need: Need = resolve(step.memory)(spec, sizes, machine)
    return need


def runtime_of(spec: Spec, sizes: Sizes) -> str:
    """The runtime of the bundle, as `tunewright.inference.runtimes.base.best_runtime` will choose it."""
    if sizes.kind == "linear":
        return LINEAR
    if sizes.kind == "encoder":
        return encoder_runtime(spec.export.runtime)
    if spec.export.runtime != "auto":
        return spec.export.runtime
    supported = unsupported({"model_type": sizes.type}) is None
    return "openvino" if supported and platform.machine() in ("x86_64", "AMD64") else "onnxruntime"


def served_weights(spec: Spec, sizes: Sizes) -> float:
    """The bytes of the bundle's weights."""
    return memory.weights(sizes, spec.export.weights)


def data(spec: Spec, sizes: Sizes, machine: Machine) -> Need:  # noqa: ARG001 (all needs have one signature)
    return Need(DATA, "the data are read in parts, and some hundred bytes per row are kept")


def small(spec: Spec, sizes: Sizes, machine: Machine) -> Need:  # noqa: ARG001
    return Need(SMALL, "it holds no model")


def train(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    if sizes.kind == "linear":
        return _FITTED
    if sizes.kind == "encoder":
        return _train_encoder(spec, sizes)
    trained = spec.train.lora.r * sizes.sides
    precision, bits = ("16-bit", 16) if machine.half else ("fp32", 32)
    if spec.train.method == "qlora":
        precision, bits = "nf4", 4
    held = memory.weights(sizes, precision) + trained * (8 + _ADAM)
    why = f"{sizes.parameters / 1e9:.1f} B parameters in {bits} bits with adapter and optimizer, without any batch"
    # The last checkpoint holds adapter and moments; the adapter itself is written, too.
    disk = trained * (8 + _ADAM) * spec.train.num_seeds
    if machine.has_gpu:
        return Need(memory.TRAINER, "the weights are mapped", memory.CUDA + held, why, disk)
    return Need(memory.TRAINER + held, why, disk=disk)


def export(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    if sizes.kind == "linear":
        return _FITTED
    if sizes.kind == "encoder":
        return _export_encoder(spec, sizes)
    runtime = runtime_of(spec, sizes)
    built = memory.building(sizes, runtime)
    why = "merging, transposing and quantizing hold a few copies of the largest matrix in float32"
    if runtime == "onnxruntime":
        why = "onnxruntime's builder joins the projections of queries, keys and values"
    served = _served(spec, sizes, machine)
    # Merged weights in 16 bits, and the bundle; a vLLM bundle links to the merged weights or to the base's.
    bundle = 0.0 if runtime.startswith("vllm") else served_weights(spec, sizes)
    if runtime == "onnxruntime":  # the builder's input is written first, with the embedding in float32 in both
        bundle = 2 * (bundle + 4 * sizes.embedding)
    disk = memory.weights(sizes, "16-bit") + bundle
    if max(built, memory.merging(sizes)) >= served.memory:
        return Need(max(built, memory.merging(sizes)), why, served.gpu, served.gpu_because, disk)
    return Need(served.memory, served.because, served.gpu, served.gpu_because, disk)


def evaluate(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    if sizes.kind == "linear":
        return _FITTED
    if sizes.kind == "encoder":
        return _evaluate_encoder(spec, sizes)
    served, nf4 = _served(spec, sizes, machine), spec.train.method == "qlora"
    if machine.has_gpu:
        # Evaluation leaves out the merged model if it does not fit.
        held = memory.on_gpu(sizes, nf4=nf4, context=spec.train.max_length)
        why = f"a candidate's weights in {4 if nf4 else 16} bits, with keys and values of one prompt"
        return Need(served.memory, served.because, max(held, served.gpu), why)
    # On a CPU the merged model is evaluated, too, and it is never in 4 bits.
    held = max(memory.evaluating(sizes, nf4=each, half=machine.half) for each in {False, nf4})
    why = f"a candidate's weights are computed layer by layer in {'16 bits' if machine.half else 'float32'}"
    return Need(held, why) if held > served.memory else Need(served.memory, served.because)


def parity(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    if sizes.kind == "linear":
        return _FITTED
    if sizes.kind == "encoder":
        return _parity_encoder(spec, sizes)
    served = _served(spec, sizes, machine)
    return Need(served.memory + CLIENT, served.because, served.gpu, served.gpu_because)


def _served(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    runtime = runtime_of(spec, sizes)
    if runtime.startswith("vllm"):
        held = (memory.weights(sizes, "16-bit") + VLLM_ACTIVATIONS * GIB) / VLLM_SHARE
        why = f"vLLM holds the weights in 16 bits, and reserves {VLLM_SHARE:.0%} of the memory"
        return Need(memory.TORCH, "vLLM's own processes", held, why) if machine.has_gpu else Need(held, why)
    held = memory.serving(sizes, spec.export.precision, spec.train.max_length)
    size = served_weights(spec, sizes) / GIB
    return Need(held, f"the server holds {size:.1f} GiB of {spec.export.precision} weights, keys and values")


def _train_encoder(spec: Spec, sizes: Sizes) -> Need:
    held = ADAM_TRAINED * sizes.parameters
    why = (
        f"all {sizes.parameters / 1e6:.0f} M parameters are trained, with {ADAM_TRAINED} bytes each, without any batch"
    )
    # A checkpoint holds weights and moments.
    return Need(memory.TRAINER + held, why, disk=ADAM_TRAINED * sizes.parameters * spec.train.num_seeds)


def _export_encoder(spec: Spec, sizes: Sizes) -> Need:
    # Three copies: as read, as torch's graph, and as the runtime's.
    held, why = memory.TORCH + 3 * 4.0 * sizes.parameters, "torch traces the encoder in float32"
    return Need(held, why, disk=served_weights(spec, sizes))


def _evaluate_encoder(spec: Spec, sizes: Sizes) -> Need:  # noqa: ARG001
    return Need(memory.TORCH + 4.0 * sizes.parameters, "the encoder answers in torch, in float32")


def _parity_encoder(spec: Spec, sizes: Sizes) -> Need:
    held = memory.serving(sizes, spec.export.precision, 0)
    size = served_weights(spec, sizes) / GIB
    return Need(held + CLIENT, f"the server holds {size:.2f} GiB of {spec.export.precision} weights")
