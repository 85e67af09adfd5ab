"""Training rows to withhold because a frozen test has them, or nearly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.data.dedup.blocks import SEARCH
from tunewright.data.dedup.near import THRESHOLD, near_copies
from tunewright.data.splits.frozen import Frozen, digest
from tunewright.data.text import normal
from tunewright.tasks import Example

WITHHELD = "withheld.jsonl"

REPEAT, NEAR_COPY, GROUP = "repeats-frozen", "near-copy-of-frozen", "group-of-frozen"
NOT_FROZEN = "not-frozen-yet"
"""A row of a named test file that joins the test when it is frozen again."""
NEWER = "newer-than-test"
"""A row of a block in train that is as new as the test."""
FOR_THE_GATE = "for-the-gate"
"""A correction kept from training, on which a challenger is compared with the champion."""


@dataclass(frozen=True)
class Withheld:
    """A row that is in no part of the dataset, and the reason."""

    example: Example
    reason: str
    part: str
    """The split of the row: train or a named test."""
    like: str | None = None
    """Id of the related frozen example."""


def save_withheld(folder: Path, rows: Sequence[Withheld]) -> None:
    """Write `withheld.jsonl`, unless nothing is withheld."""
    if rows:
        write_jsonl(folder / WITHHELD, ({**vars(row), "example": row.example.row()} for row in rows))


def load_withheld(folder: Path) -> list[Withheld]:
    path = folder / WITHHELD
    rows = read_jsonl(path) if path.exists() else []
    return [Withheld(**{**row, "example": Example.model_validate(row["example"])}) for row in rows]


def keep_out(splits: Mapping[str, Sequence[Example]], frozen: Frozen) -> tuple[list[Example], list[Withheld]]:
    """(training rows unrelated to the frozen test, rows that are withheld).

    A training row is withheld where it repeats a frozen text, is a near copy of one, or is in a frozen example's group.
    Only direct relations count: a near copy of a near copy may be no near copy, and chains would sooner or later
    withhold most of a large dataset. A row that *is* a frozen example, as often as that is frozen, is in neither
    result.

    Args:
        splits: the rows of "train" and of each named test file.
    """
    remaining = Counter(map(digest, frozen.examples))
    others = {
        name: [example for example in splits[name] if not _is_frozen(example, remaining)]
        for name in sorted(splits, key=lambda name: (name == "train", name))
    }
    train = others.pop("train")
    withheld = [Withheld(e, NOT_FROZEN, name) for name, examples in others.items() for e in examples]
    relations = _relations(train, frozen, _groups_by_text(splits["train"], frozen))
    kept = []
    for index, example in enumerate(train):
        if index in relations:
            reason, like = relations[index]
            withheld.append(Withheld(example, reason, "train", like))
        else:
            kept.append(example)
    return kept, withheld


def _is_frozen(example: Example, remaining: Counter[str]) -> bool:
    """Whether the row is one of the remaining frozen examples, which it then uses up. It may have got a group since."""
    bare = example.model_copy(update={"meta": example.meta.model_copy(update={"group": None})})
    for key in dict.fromkeys((digest(example), digest(bare))):
        if remaining[key] > 0:
            remaining[key] -= 1
            return True
    return False


def _groups_by_text(rows: Iterable[Example], frozen: Frozen) -> dict[str, str]:
    """Groups for frozen examples without one, each with the example's id: the groups of rows with the same text."""
    groupless = {normal(e.request): e.meta.id for e in frozen.examples if not e.meta.group}
    return {
        row.meta.group: groupless[text] for row in rows if row.meta.group and (text := normal(row.request)) in groupless
    }


def _relations(rows: Sequence[Example], frozen: Frozen, by_text: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """(reason, id of the frozen example) for the indices of rows that are related to one."""
    texts = {normal(example.request): example.meta.id for example in frozen.examples}
    groups = {**by_text, **{example.meta.group: example.meta.id for example in frozen.examples if example.meta.group}}
    relations: dict[int, tuple[str, str]] = {}
    for index, example in enumerate(rows):
        if text_of := texts.get(normal(example.request)):
            relations[index] = (REPEAT, text_of)
        elif group_of := groups.get(example.meta.group or ""):
            relations[index] = (GROUP, group_of)
    copies = near_copies([e.request for e in frozen.examples], [e.request for e in rows], SEARCH)
    for pair in copies:
        if pair.jaccard >= THRESHOLD:
            relations.setdefault(pair.second, (NEAR_COPY, frozen.examples[pair.first].meta.id))
    return relations
