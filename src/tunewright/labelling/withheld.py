"""Requests that are not taught, because the sample, which is the test, has them or nearly has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tunewright.config import DataSpec
from tunewright.data.splits.frozen import Frozen
from tunewright.data.splits.withholding import keep_out
from tunewright.labelling.requests import Unlabelled
from tunewright.tasks import Example, Meta

_SAMPLE, _TRAIN = "people", "train"


def related(data: DataSpec, rows: Sequence[Unlabelled], sample: Collection[str]) -> dict[str, str]:
    """The reason by the id of each request outside the sample that repeats one of it, nearly repeats one, or is of its
    group: the rule by which a frozen test keeps rows out of training.

    Args:
        sample: the ids of the sample.
    """
    of_sample = set(sample)
    frozen = Frozen({_SAMPLE: [_example(row, data) for row in rows if row.id in of_sample]}, frozenset(), frozenset())
    if not frozen.examples:
        return {}
    _, withheld = keep_out({_TRAIN: [_example(row, data) for row in rows if row.id not in of_sample]}, frozen)
    return {each.example.meta.id: each.reason for each in withheld}


def _example(row: Unlabelled, data: DataSpec) -> Example:
    group = row.kept.get(data.group) if data.group else None
    return Example.of(row.text, "", Meta(id=row.id, group=None if group is None else str(group)))
