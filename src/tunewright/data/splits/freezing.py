"""Freezing the test of a split, and extending a frozen one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunewright.config import FROZEN, Spec
from tunewright.core.errors import UserError
from tunewright.data.chain import versions_in
from tunewright.data.dataset import load_dataset
from tunewright.data.dedup.blocks import blocks_of, members
from tunewright.data.job import columns_in, files_of
from tunewright.data.readers import read_piece
from tunewright.data.readers.parts import Piece
from tunewright.data.splits.frozen import NOTHING, Frozen, read_frozen, trace, write_version
from tunewright.data.splits.partition import HELD_OUT, cut_by_spec
from tunewright.data.splits.withholding import NEWER, NOT_FROZEN, Withheld, keep_out, load_withheld
from tunewright.tasks import Example
from tunewright.tasks.input_form import InputForm


@dataclass(frozen=True)
class Freezing:
    """The frozen test as it is now, and the additions to it."""

    folder: Path
    version: int
    sha256: str
    """SHA-256 that pins this version and all before it."""
    added: dict[str, int]
    """Number of examples added to each part; empty where there was nothing to add and no version was written."""
    parts: dict[str, int]
    """Number of examples in each part."""
    withheld: int
    """Number of training rows of the split that are related to an added example; the next split withholds them."""


def before_freezing(spec: Spec) -> Spec:
    """The spec for the split before freezing: without the frozen test where that does not exist yet."""
    folder = spec.frozen_folder
    if folder is None or versions_in(folder):
        return spec
    return spec.model_copy(update={"data": spec.data.model_copy(update={"frozen": None})})


def freeze(spec: Spec, split: Path) -> Freezing:
    """Freeze the test of a split, or extend the test that is frozen already.

    An extension adds the rows of named test files that are not frozen yet. Without such files it adds
    `data.test_fraction` of the training rows that are new since the last freezing, in whole blocks and by the rule of
    the split. A block with a row that was for training at an earlier freezing stays in training, also where inputs are
    read otherwise now. Where there is nothing to add, no version is written, and new rows still count as new next time.

    Args:
        split: the output folder of the step `split` for this spec.

    Raises:
        UserError: the frozen test was edited, or nothing would be left to train on.
    """
    dataset = load_dataset(split)
    pool, withheld_before = [*dataset.train, *dataset.validation], load_withheld(split)
    folder = spec.frozen_folder or spec.path(Path(FROZEN))
    before = (read_frozen(folder) if versions_in(folder) else NOTHING).as_read(InputForm.of(spec.task))
    additions = _additions(spec, pool, withheld_before, before) if before.number else dataset.test
    added = {name: len(examples) for name, examples in additions.items() if examples}
    if not added:
        return _freezing(folder, before, added, 0)
    added_ids = {id(example) for examples in additions.values() for example in examples}
    pool = [example for example in pool if id(example) not in added_ids]
    # Rows withheld only as newer than this test return to train once it is frozen, so they count as train.
    newer = [row.example for row in withheld_before if row.reason == NEWER]
    after = before.extended(additions, [*pool, *newer], spec.data.group)
    rest, withheld = keep_out({"train": pool}, after)
    if not rest:
        raise UserError(
            f"With this test frozen nothing would be left to train on: all {len(pool)} training rows repeat it, nearly "
            "repeat it, or share a group with it.",
            where=spec.path(spec.data.train),
            fix="Name a test of other groups under data.test, or none.",
        )
    return _freezing(folder, write_version(folder, before, after, spec.data.group), added, len(withheld))


def _additions(spec: Spec, pool: list[Example], withheld: list[Withheld], frozen: Frozen) -> dict[str, list[Example]]:
    if spec.data.test:
        by_part: dict[str, list[Example]] = {}
        for row in withheld:
            if row.reason == NOT_FROZEN:
                by_part.setdefault(row.part, []).append(row.example)
        return by_part
    kept = frozen.kept | _kept_as_read_before(spec, frozen)
    new = [block for block in blocks_of(pool) if not any(trace(example) in kept for example in block)]
    return {HELD_OUT: members(cut_by_spec(spec, new, spec.data.test_fraction, spec.seed).held)}


def _kept_as_read_before(spec: Spec, frozen: Frozen) -> set[str]:
    """Traces, as inputs are read now, of the raw rows that were for training when they were read otherwise."""
    before = frozen.forms - {frozen.form}
    if not before:
        return set()
    raw = (
        item
        for file in files_of({"train": spec.path(spec.data.train)}, spec.corrections_folder)["train"]
        for item in read_piece(Piece(file), spec.data.form, columns_in(spec))
    )
    return {
        trace(frozen.form.of_example(row))
        for row in raw
        if isinstance(row, Example) and any(trace(form.of_example(row)) in frozen.kept for form in before)
    }


def _freezing(folder: Path, frozen: Frozen, added: dict[str, int], withheld: int) -> Freezing:
    parts = {name: len(examples) for name, examples in frozen.parts.items()}
    return Freezing(folder, frozen.number, frozen.sha256 or "", added, parts, withheld)
