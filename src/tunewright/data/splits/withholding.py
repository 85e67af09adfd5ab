"""What must not be trained on because a frozen test has it, or nearly."""

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
"""A row that hangs together with training rows but was written in the test's time."""
FOR_THE_GATE = "for-the-gate"
"""A correction that is not trained on, so that a challenger can be compared with the champion on it."""


@dataclass(frozen=True)
class Withheld:
    """A row that is in no part of the dataset, and why."""

    example: Example
    reason: str
    part: str
    """The split it was read for: train or a named test."""
    like: str | None = None
    """Id of the frozen example it has to do with."""


def save_withheld(folder: Path, rows: Sequence[Withheld]) -> None:
    """Write `withheld.jsonl`, unless nothing is withheld."""
    if rows:
        write_jsonl(folder / WITHHELD, ({**vars(row), "example": row.example.row()} for row in rows))


def load_withheld(folder: Path) -> list[Withheld]:
    path = folder / WITHHELD
    rows = read_jsonl(path) if path.exists() else []
    return [Withheld(**{**row, "example": Example.model_validate(row["example"])}) for row in rows]


def keep_out(splits: Mapping[str, Sequence[Example]], frozen: Frozen) -> tuple[list[Example], list[Withheld]]:
    """(training rows that have nothing to do with the frozen test, rows that are withheld).

    A training row is withheld where it repeats a frozen text, is a near copy of one, or is of a frozen example's group.
    Only what has to do with a frozen example itself is: a near copy of a near copy may be neither, and to withhold all
    that chains would, sooner or later, withhold most of a large dataset. A row that *is* a frozen example, as often as
    that is frozen, is in neither result.

    Args:
        splits: the rows of "train" and of each named test file.
    """
    left = Counter(map(digest, frozen.examples))
    others = {
        name: [example for example in splits[name] if not _is_frozen(example, left)]
        for name in sorted(splits, key=lambda name: (name == "train", name))
    }
    train = others.pop("train")
    withheld = [Withheld(e, NOT_FROZEN, name) for name, examples in others.items() for e in examples]
    relations = _relations(train, frozen, _lent_groups(splits["train"], frozen))
    kept = []
    for index, example in enumerate(train):
        if index in relations:
            reason, like = relations[index]
            withheld.append(Withheld(example, reason, "train", like))
        else:
            kept.append(example)
    return kept, withheld


def _is_frozen(example: Example, left: Counter[str]) -> bool:
    """Whether the row is one of the frozen examples that are not yet found; a group may have come to it since."""
    bare = example.model_copy(update={"meta": example.meta.model_copy(update={"group": None})})
    for key in dict.fromkeys((digest(example), digest(bare))):
        if left[key] > 0:
            left[key] -= 1
            return True
    return False


def _lent_groups(rows: Iterable[Example], frozen: Frozen) -> dict[str, str]:
    """Groups of frozen examples that have none of their own: those that rows of the same text have now."""
    groupless = {normal(e.request): e.meta.id for e in frozen.examples if not e.meta.group}
    return {
        row.meta.group: groupless[text] for row in rows if row.meta.group and (text := normal(row.request)) in groupless
    }


def _relations(rows: Sequence[Example], frozen: Frozen, lent: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """(reason, id of the frozen example) for the indices of rows that have to do with one."""
    texts = {normal(example.request): example.meta.id for example in frozen.examples}
    groups = {**lent, **{example.meta.group: example.meta.id for example in frozen.examples if example.meta.group}}
    found: dict[int, tuple[str, str]] = {}
    for index, example in enumerate(rows):
        if text_of := texts.get(normal(example.request)):
            found[index] = (REPEAT, text_of)
        elif group_of := groups.get(example.meta.group or ""):
            found[index] = (GROUP, group_of)
    copies = near_copies([e.request for e in frozen.examples], [e.request for e in rows], SEARCH)
    for pair in copies:
        if pair.jaccard >= THRESHOLD:
            found.setdefault(pair.second, (NEAR_COPY, frozen.examples[pair.first].meta.id))
    return found
