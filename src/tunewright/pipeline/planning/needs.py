"""Memory that each step holds and disk that it fills, from the spec and the sizes of the model; no data are read."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.economics import memory
from tunewright.economics.machines import VLLM_ACTIVATIONS, VLLM_SHARE
from tunewright.economics.memory import GIB
from tunewright.inference.runtimes.base import encoder_runtime
from tunewright.models.architectures import unsupported
from tunewright.models.linear_model import LINEAR
from tunewright.models.sizes import Sizes
from tunewright.pipeline.planning.machines import Machine
from tunewright.pipeline.steps import Step, resolve

DATA = 0.5 * GIB
"""Python and the libraries of steps that read the data, and some hundred thousand rows (350 bytes each)."""
SMALL = 0.4 * GIB
"""Of steps that hold no model."""
ASKING = 0.3 * GIB
"""The process that asks a server, beside the server's own."""
_ADAM = 8
"""Bytes of AdamW's moments for a trained number; beside it 4 of the number and 4 of its gradient."""

ADAM_TRAINED = 16
"""Bytes of a number that is trained in float32: itself, its gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Need:
    """What a step needs of a machine, in bytes."""

    memory: float
    """Main memory, at its peak."""
    because: str
    """What takes most of it, as the end of a sentence."""
    gpu: float = 0.0
    """Memory of a GPU."""
    gpu_because: str = ""
    disk: float = 0.0
    """What it writes and leaves, of weights; other files are small."""


_FITTED = Need(DATA, "a linear model is fitted to all rows at once")


def need_of(step: Step, spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    """What a step needs at the least; see `Step.memory`."""
    need: Need = resolve(step.memory)(spec, sizes, machine)
    return need


def runtime_of(spec: Spec, sizes: Sizes) -> str:
    """The runtime that the bundle will be for, as `tunewright.inference.runtimes.base.best_runtime` finds it."""
    if sizes.kind == "linear":
        return LINEAR
    if sizes.kind == "encoder":
        return encoder_runtime(spec.export.runtime)
    if spec.export.runtime != "auto":
        return spec.export.runtime
    known = unsupported({"model_type": sizes.type}) is None
    return "openvino" if known and platform.machine() in ("x86_64", "AMD64") else "onnxruntime"


def served_weights(spec: Spec, sizes: Sizes) -> float:
    """Bytes of the bundle's weights."""
    return memory.weights(sizes, spec.export.weights)


def data(spec: Spec, sizes: Sizes, machine: Machine) -> Need:  # noqa: ARG001 (all have one form)
    return Need(DATA, "the data are read in parts, and some hundred bytes are kept of each row")


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
    why = f"{sizes.parameters / 1e9:.1f} B parameters in {bits} bits with adapter and optimizer, before any batch"
    # The last checkpoint holds adapter and moments; the adapter itself is written beside it.
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
    why = "a few copies of the largest matrix are held in float32 while it is merged, turned and quantised"
    if runtime == "onnxruntime":
        why = "onnxruntime's builder joins what reads queries, keys and values"
    served = _served(spec, sizes, machine)
    # Merged weights in 16 bits, and the bundle; vLLM's are links to the merged ones, or to the base's.
    bundle = 0.0 if runtime.startswith("vllm") else served_weights(spec, sizes)
    if runtime == "onnxruntime":  # what its builder reads is written first, the embedding in float32 in both
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
        # The merged model is left out where it does not fit.
        held = memory.on_gpu(sizes, nf4=nf4, context=spec.train.max_length)
        why = f"a candidate's weights in {4 if nf4 else 16} bits, with keys and values of one prompt"
        return Need(served.memory, served.because, max(held, served.gpu), why)
    # On a CPU it is asked too, and is never in 4 bits.
    held = max(memory.evaluating(sizes, nf4=each, half=machine.half) for each in {False, nf4})
    why = f"a candidate's weights are computed layer by layer in {'16 bits' if machine.half else 'float32'}"
    return Need(held, why) if held > served.memory else Need(served.memory, served.because)


def parity(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    if sizes.kind == "linear":
        return _FITTED
    if sizes.kind == "encoder":
        return _parity_encoder(spec, sizes)
    served = _served(spec, sizes, machine)
    return Need(served.memory + ASKING, served.because, served.gpu, served.gpu_because)


def _served(spec: Spec, sizes: Sizes, machine: Machine) -> Need:
    runtime = runtime_of(spec, sizes)
    if runtime.startswith("vllm"):
        held = (memory.weights(sizes, "16-bit") + VLLM_ACTIVATIONS * GIB) / VLLM_SHARE
        why = f"vLLM holds the weights in 16 bits, and takes {VLLM_SHARE:.0%} of what there is"
        return Need(memory.TORCH, "vLLM's own processes", held, why) if machine.has_gpu else Need(held, why)
    held = memory.serving(sizes, spec.export.precision, spec.train.max_length)
    size = served_weights(spec, sizes) / GIB
    return Need(held, f"the server holds {size:.1f} GiB of {spec.export.precision} weights, keys and values")


def _train_encoder(spec: Spec, sizes: Sizes) -> Need:
    held = ADAM_TRAINED * sizes.parameters
    why = f"{sizes.parameters / 1e6:.0f} M parameters that are all trained, {ADAM_TRAINED} bytes each, before any batch"
    # A checkpoint holds weights and moments.
    return Need(memory.TRAINER + held, why, disk=ADAM_TRAINED * sizes.parameters * spec.train.num_seeds)


def _export_encoder(spec: Spec, sizes: Sizes) -> Need:
    # As it is read, as torch's graph and as the runtime's.
    held, why = memory.TORCH + 3 * 4.0 * sizes.parameters, "torch traces the encoder in float32"
    return Need(held, why, disk=served_weights(spec, sizes))


def _evaluate_encoder(spec: Spec, sizes: Sizes) -> Need:  # noqa: ARG001
    return Need(memory.TORCH + 4.0 * sizes.parameters, "the encoder is asked in torch, in float32")


def _parity_encoder(spec: Spec, sizes: Sizes) -> Need:
    held = memory.serving(sizes, spec.export.precision, 0)
    size = served_weights(spec, sizes) / GIB
    return Need(held + ASKING, f"the server holds {size:.2f} GiB of {spec.export.precision} weights")
