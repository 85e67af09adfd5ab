"""Decides in how many processes of this machine a training is fastest."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunewright.config import Spec
from tunewright.config.sections import ExtractSpec
from tunewright.core.artifacts import read_manifest
from tunewright.core.processes import has_gpu, machine_memory
from tunewright.core.threads import threads
from tunewright.models.resolve import kind_of
from tunewright.tasks import Example, task_of
from tunewright.training.loop.swapped import with_copies
from tunewright.training.planning.batches import decoder_examples
from tunewright.training.planning.cpu import stored_bytes

_COUNTS = (4, 2)
"""Numbers of processes to consider; more were not measured."""
_FEWEST = 8
"""Fewest examples in a share."""
_SERIAL = 0.2
"""Share of a step's work that more threads do not speed up; see docs/training.md."""
_TURN = 24
"""Characters that a chat template adds to a message."""
_MEASURED = 500
"""Examples whose lengths are counted."""
_LIBRARIES = 4e9
"""Bytes that libraries and activations take in one process."""


@dataclass(frozen=True)
class Division:
    processes: int
    time: float
    """Time of a step, as a share of one process's time."""


def processes_for(spec: Spec, inputs: Mapping[str, Path]) -> int:
    """The number of processes of this machine for the step `train`."""
    manifest = read_manifest(inputs["split"]) if "split" in inputs else None
    if manifest is None or kind_of(spec.model, spec.folder) != "decoder":
        return 1  # the step itself reports that; an encoder's small products are divided among threads
    with (inputs["split"] / "train.jsonl").open(encoding="utf-8") as lines:
        rows = map(Example.model_validate_json, lines)
        if not _is_windowed(spec):
            count = int(manifest.result["train"]) * (1 + spec.train.num_swapped_copies)
            return division(spec, list(islice(rows, _MEASURED)), count).processes
        (examples,) = decoder_examples(spec, with_copies(spec, list(rows)))
    return division(spec, examples, len(examples)).processes


def _is_windowed(spec: Spec) -> bool:
    """Whether a training may have more examples than rows."""
    return isinstance(spec.task, ExtractSpec) and spec.task.window is not None


def division(spec: Spec, examples: Sequence[Example], rows: int) -> Division:
    """The fastest division of a training; one process if the machine has a GPU or too little memory.

    QLoRA is not divided: dequantising NF4 weights takes as long for a share of a batch.

    Args:
        examples: training examples; only the first ones are measured.
        rows: number of training examples.
    """
    whole = Division(1, 1.0)
    if sys.platform != "linux" or spec.train.method == "qlora" or has_gpu():
        return whole
    batch = spec.train.batch_size
    memory = _LIBRARIES + stored_bytes(spec.model, spec.folder)
    shared, own = _lengths(spec, examples[:_MEASURED])
    own *= min(batch, rows)
    divisions = [
        Division(n, work(n, threads(), shared, own) / work(1, threads(), shared, own))
        for n in _COUNTS
        if n <= threads()
        and n * memory <= machine_memory()
        and n * _FEWEST <= batch
        and batch % n == 0
        and _none_idle(n, rows, batch)
    ]
    return min([whole, *divisions], key=lambda each: each.time)


def work(processes: int, threads: int, shared: float, own: float) -> float:
    """Relative time of a step, by Amdahl's law.

    Args:
        threads: threads of all processes together.
        shared: length of the prefix that the examples of a batch share.
        own: length of what they don't share, summed over the batch.
    """
    return (shared + own / processes) * (_SERIAL + (1 - _SERIAL) / (threads // processes))


def _none_idle(processes: int, rows: int, batch: int) -> bool:
    """Whether the last batch of an epoch has a row for each process."""
    return not 0 < rows % batch < processes


def _lengths(spec: Spec, examples: Sequence[Example]) -> tuple[float, float]:
    """Characters of the task's prompt, and mean characters of an example's text and answer."""
    shared = sum(len(message.content) + _TURN for message in task_of(spec.task).prompt(""))
    own = sum(len(example.request) + len(example.answer) + _TURN for example in examples) / max(1, len(examples))
    return shared, own
