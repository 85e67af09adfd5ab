"""In how many processes of this machine a training is fastest."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.processes import has_gpu, machine_memory, threads
from tunewright.models.resolve import kind_of
from tunewright.tasks import Example, task_of
from tunewright.training.planning.here import stored_bytes

_COUNTS = (4, 2)
"""More have not been measured."""
_LEAST = 8
"""Examples in a share."""
_SERIAL = 0.2
"""Share of a step's work that further threads do not speed up; see docs/training.md."""
_TURN = 24
"""Characters that a chat template writes around a message."""
_LOOKED_AT = 500
"""Examples whose lengths are looked at."""
_LIBRARIES = 4e9
"""Bytes for libraries and activations of one process."""


@dataclass(frozen=True)
class Division:
    processes: int
    time: float
    """Of a step, as a share of what one process takes."""


def processes_for(spec: Spec, inputs: Mapping[str, Path]) -> int:
    """In how many processes of this machine the step `train` is to run."""
    manifest = read_manifest(inputs["split"]) if "split" in inputs else None
    if manifest is None or kind_of(spec.model, spec.folder) != "decoder":
        return 1  # which the step itself reports; an encoder's small products are cut up among threads
    with (inputs["split"] / "train.jsonl").open(encoding="utf-8") as lines:
        examples = [Example.model_validate_json(line) for line in islice(lines, _LOOKED_AT)]
    return division(spec, examples, int(manifest.result["train"])).processes


def division(spec: Spec, examples: Sequence[Example], rows: int) -> Division:
    """The fastest division of a training; none where the machine has a GPU, or too little memory.

    Dequantised NF4 weights are no less work for a part of a batch, so QLoRA is not divided.

    Args:
        examples: training rows; the lengths of the first are looked at.
        rows: how many training rows there are.
    """
    whole = Division(1, 1.0)
    if sys.platform != "linux" or spec.train.method == "qlora" or has_gpu():
        return whole
    batch = spec.train.batch_size
    memory = _LIBRARIES + stored_bytes(spec.model, spec.folder)
    shared, own = _lengths(spec, examples[:_LOOKED_AT])
    own *= min(batch, rows)
    divisions = [
        Division(n, work(n, threads(), shared, own) / work(1, threads(), shared, own))
        for n in _COUNTS
        if n <= threads()
        and n * memory <= machine_memory()
        and n * _LEAST <= batch
        and batch % n == 0
        and _none_idle(n, rows, batch)
    ]
    return min([whole, *divisions], key=lambda each: each.time)


def work(processes: int, threads: int, shared: float, own: float) -> float:
    """Relative time of a step, by Amdahl's law.

    Args:
        threads: of all processes together.
        shared: length of what the examples of a batch begin with.
        own: length of what they don't share, all together.
    """
    return (shared + own / processes) * (_SERIAL + (1 - _SERIAL) / (threads // processes))


def _none_idle(processes: int, rows: int, batch: int) -> bool:
    """Whether the last batch of an epoch has a row for each."""
    return not 0 < rows % batch < processes


def _lengths(spec: Spec, examples: Sequence[Example]) -> tuple[float, float]:
    """Characters of the task's prompt, and of an example's own text, in the mean."""
    shared = sum(len(message.content) + _TURN for message in task_of(spec.task).prompt(""))
    own = sum(len(example.request) + len(example.answer) + _TURN for example in examples) / max(1, len(examples))
    return shared, own
