"""The time of each step on a machine: its operations and bytes, divided by the machine's speed.

Prefill costs two operations per parameter for each token that is not in the cache. Each decoded token costs reading the
weights once. The estimates are good to a factor of two, so they are ranges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.economics.memory import weights
from tunewright.economics.speed import Range, around
from tunewright.evaluation.candidates.in_torch import AT_ONCE, CHECKED, LARGE, ROOM, SAMPLE
from tunewright.exporters.calibration import MOST_EXAMPLES
from tunewright.models.sizes import Sizes
from tunewright.pipeline.planning.machines import Machine, Speed
from tunewright.pipeline.planning.needs import runtime_of, served_weights
from tunewright.pipeline.steps import Step, resolve

ANSWER = 0.01
"""Seconds per answer beside the forward passes: the tokenizer, the search over labels, HTTP."""
IMPORTS = 8.0
"""Seconds until a step that needs torch starts its work."""
BUILD = 40.0
"""Seconds of one core to merge, transpose and quantize a thousand million parameters (`bench/true_size.py`)."""
BUILD_ONNX, BUILD_ONNX_INT4 = 60.0, 470.0
"""The same by onnxruntime-genai's model builder; its k-quant took half an hour for Phi-3-mini."""
HASHED = 0.5e9
"""Bytes per second at which an output is written and hashed."""
ROW = 0.002
"""Seconds per row to read, check and split it, if that was not measured."""
BASELINES = 0.003
"""Seconds per row for the linear model and the other baselines."""
VERDICT = 20.0
"""Seconds of the bootstrap and the report."""
API = 0.7
"""Seconds per answer of an API; several requests run at once."""
API_AT_ONCE = 8
_FACTOR = 2.0
"""The accuracy of all these estimates, as a factor."""


@dataclass(frozen=True)
class PlannedJob:
    """The counts that determine how much work a project's steps have."""

    spec: Spec
    sizes: Sizes
    train: int
    validation: int
    splits: Sequence[int]
    """Examples of each test split that are evaluated."""
    prefix: float
    """Tokens of the prefix that all requests share."""
    own: float
    """Tokens of a request after the prefix, in all its chunks."""
    written: float
    """Forward passes after the prefill: tokens of an answer, or its decisions."""

    @property
    def tests(self) -> int:
        """Examples of all test splits that are evaluated."""
        return sum(self.splits)

    def sampled(self, most: int) -> int:
        """Examples of all test splits where at most `most` of each are asked."""
        return sum(min(count, most) for count in self.splits)

    @property
    def rows(self) -> int:
        return self.train + self.validation + self.tests


def seconds_of(step: Step, job: PlannedJob, machine: Machine, known: Mapping[str, Range]) -> Range | None:
    """The time of a step; None if it runs on a GPU that nobody has measured.

    Args:
        known: the seconds of steps that were measured or counted elsewhere.
    """
    if step.name in known:
        return known[step.name]
    assert machine.speed, "the machine's speed is needed to plan times"
    on_gpu = step.needs_gpu == "torch" or (step.needs_gpu == "vllm" and _by_gpu(job, machine))
    if not step.seconds or (machine.has_gpu and not machine.speed.gpu_bytes and on_gpu):
        return None
    return around(resolve(step.seconds)(job, machine, machine.speed), _FACTOR)


def candidate_seconds(job: PlannedJob, speed: Speed, count: float, *, nf4: bool, on_gpu: bool) -> float:
    """The time of one candidate in torch for `count` requests."""
    sizes = job.sizes
    inner = sizes.parameters - sizes.vocabulary
    tokens = count * job.own + job.prefix
    at_once = max(1.0, min(AT_ONCE, ROOM / max(1.0, 2 * sizes.cache * job.own)))
    passes = math.ceil(count / at_once) * max(1.0, job.written)
    held = weights(sizes, "nf4" if nf4 else "16-bit")
    each = held / (speed.gpu_bytes if on_gpu else speed.bytes)
    if nf4 and not on_gpu:
        each += inner / speed.nf4
    return 2 * inner * tokens / speed.floats + passes * each + ANSWER * count


def served_seconds(job: PlannedJob, speed: Speed, count: float, *, on_gpu: bool) -> float:
    """The time of the served model for `count` requests, one at a time."""
    sizes = job.sizes
    inner = sizes.parameters - sizes.vocabulary
    operations, bandwidth = (speed.floats, speed.gpu_bytes) if on_gpu else (speed.ints, speed.bytes)
    prefill = 2 * inner * job.own / operations
    decode = max(1.0, job.written) * served_weights(job.spec, sizes) / bandwidth
    return count * (prefill + decode + ANSWER) + 2 * inner * job.prefix / operations


def _by_gpu(job: PlannedJob, machine: Machine) -> bool:
    return machine.has_gpu and runtime_of(job.spec, job.sizes).startswith("vllm")


def data(job: PlannedJob, machine: Machine, speed: Speed) -> float:  # noqa: ARG001 (all times have one signature)
    return 2 + ROW * job.rows


def baseline(job: PlannedJob, machine: Machine, speed: Speed) -> float:  # noqa: ARG001
    each = job.sampled(job.spec.baseline.sample or job.tests)
    return 2 + len(job.spec.asked_apis) * each * API / API_AT_ONCE


def export(job: PlannedJob, machine: Machine, speed: Speed) -> float:
    if job.sizes.kind == "encoder":
        calibration = served_seconds(job, speed, min(job.validation, MOST_EXAMPLES), on_gpu=False)
        writing = served_weights(job.spec, job.sizes) / HASHED
        return IMPORTS + BUILD * job.sizes.parameters / 1e9 + writing + calibration
    runtime, billions = runtime_of(job.spec, job.sizes), job.sizes.parameters / 1e9
    building = BUILD * billions
    if runtime == "onnxruntime":
        building += (BUILD_ONNX_INT4 if job.spec.export.precision == "int4" else BUILD_ONNX) * billions
    writing = (weights(job.sizes, "16-bit") + served_weights(job.spec, job.sizes)) / HASHED
    calibration = served_seconds(job, speed, min(job.validation, MOST_EXAMPLES), on_gpu=_by_gpu(job, machine))
    return IMPORTS + building + writing + calibration


def evaluate(job: PlannedJob, machine: Machine, speed: Speed) -> float:
    if job.sizes.kind == "encoder":  # as trained, and as exported
        trained = candidate_seconds(job, speed, job.tests, nf4=False, on_gpu=machine.has_gpu)
        exported = served_seconds(job, speed, job.tests, on_gpu=False)
        return IMPORTS + BASELINES * job.rows + trained + exported
    nf4, gpu = job.spec.train.method == "qlora", machine.has_gpu
    sampled, checked = (job.tests if gpu else min(job.tests, most) for most in (SAMPLE, CHECKED))
    unmerged = candidate_seconds(job, speed, sampled, nf4=nf4, on_gpu=gpu)
    if job.spec.evaluate.few_shot:  # it answers more examples only if it may beat the baselines
        unmerged += candidate_seconds(job, speed, job.tests if gpu else checked, nf4=nf4, on_gpu=gpu)
    merged = candidate_seconds(job, speed, checked, nf4=False, on_gpu=gpu)
    tried = sampled if job.sizes.parameters < LARGE else checked
    exported = served_seconds(job, speed, tried, on_gpu=_by_gpu(job, machine))
    return IMPORTS + BASELINES * job.rows + unmerged + merged + exported


def parity(job: PlannedJob, machine: Machine, speed: Speed) -> float:
    return 3 + served_seconds(job, speed, job.tests + job.validation, on_gpu=_by_gpu(job, machine))


def judge(job: PlannedJob, machine: Machine, speed: Speed) -> float:  # noqa: ARG001
    assert job.spec.judge
    return 2 + 2 * job.sampled(job.spec.judge.sample) * API / API_AT_ONCE


def verdict(job: PlannedJob, machine: Machine, speed: Speed) -> float:  # noqa: ARG001
    return VERDICT


def bundle(job: PlannedJob, machine: Machine, speed: Speed) -> float:  # noqa: ARG001
    return 2 + served_weights(job.spec, job.sizes) / HASHED
