"""Cuts checked examples into the parts of a dataset, by the spec."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.data.corrections import version_of_correction
from tunewright.data.dataset import Dataset
from tunewright.data.dedup.blocks import Block, blocks_of, members
from tunewright.data.label_sets import counted, stratum_of, unknown_labels
from tunewright.data.splits.frozen import Frozen
from tunewright.data.splits.split import Cut, cut_blocks
from tunewright.data.splits.withholding import FOR_THE_GATE, NEWER, Withheld, keep_out
from tunewright.data.times import instants_of
from tunewright.tasks import Example, Task, task_of
from tunewright.tasks.input_form import InputForm

HELD_OUT = "test"
"""The name of the test part that is held out where the spec names no test file."""


@dataclass(frozen=True)
class Partition:
    """Every row is in one part of the dataset or withheld. The test holds all frozen examples, in the data or not."""

    dataset: Dataset
    withheld: list[Withheld]
    result: dict[str, Any] = field(default_factory=dict)
    """Counts for the step's manifest."""


def partition(spec: Spec, splits: Mapping[str, Sequence[Example]], frozen: Frozen | None) -> Partition:
    """Cut the rows of "train" into train, validation and, unless it is named or frozen, test.

    Raises:
        UserError: too few rows, times that can't be compared, or a frozen test that doesn't fit the spec or the rows.
    """
    rows, withheld = list(splits["train"]), list[Withheld]()
    tests = {name: list(examples) for name, examples in splits.items() if name != "train"}
    if frozen:
        require_fit(spec, frozen)
        rows, withheld = keep_out(splits, frozen)
        tests = frozen.parts
        _require_rest(len(rows), len(splits["train"]))
    blocks = blocks_of(rows)
    if spec.data.test:
        gated = gate_examples(spec, blocks)
        withheld += [Withheld(example, FOR_THE_GATE, "train") for example in gated]
        gated_ids = set(map(id, gated))  # whole blocks
        rows = [row for row in rows if id(row) not in gated_ids]
        blocks = [block for block in blocks if id(block[0]) not in gated_ids]
    kept, test_share = blocks, 0.0
    if not tests:
        cut = cut_by_spec(spec, blocks, spec.data.test_fraction, spec.seed)
        tests, kept, test_share = {HELD_OUT: members(cut.held)}, cut.kept, spec.data.test_fraction
        withheld += [Withheld(example, NEWER, "train") for example in cut.newer]
    # A validation part is no test, so the newer rows of a block too large for it stay in train.
    validation = cut_by_spec(spec, kept, spec.data.validation_fraction, spec.seed + 1)
    train = [*members(validation.kept), *validation.newer] if test_share or validation.held else rows
    dataset = Dataset(train, members(validation.held), tests)
    largest = max(map(len, blocks), default=0)
    _require_parts(spec, dataset, len(rows), largest)
    result = _counts(dataset) | {"blocks": {"count": len(blocks), "largest": largest}}
    if withheld:
        result["withheld"] = dict(sorted(Counter(row.reason for row in withheld).items()))
    if frozen:
        result["frozen"] = {"version": frozen.number, "sha256": frozen.sha256}
    if spec.data.time:
        result["absent_from_test"] = _absent(task_of(spec.task), dataset)
    held = len(tests[HELD_OUT]) if test_share else len(dataset.validation)
    _print_remarks(result, len(rows), held, (test_share or spec.data.validation_fraction) * len(rows))
    return Partition(dataset, withheld, result)


def cut_by_spec(spec: Spec, blocks: Sequence[Block], share: float, seed: int) -> Cut:
    """Hold out the newest blocks where the spec names a column of times; else stratify by label, if there are any."""
    if share <= 0 or not blocks:
        return Cut(list(blocks), [])
    instants = instants_of(members(blocks)) if spec.data.time else None
    return cut_blocks(blocks, share, seed, instants, stratum=stratum_of(task_of(spec.task), members(blocks)))


def gate_examples(spec: Spec, blocks: Sequence[Block]) -> list[Example]:
    """The share `data.test_fraction` of the corrections, kept from training where the spec names tests.

    Each version's share is drawn from its own rows alone, so the same rows are held out for the next model.
    """
    versions: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        versions[min(version_of_correction(example.meta.source) for example in block)].append(block)
    versions.pop(0, None)  # blocks with a row that is no correction
    cuts = (cut_by_spec(spec, of_one, spec.data.test_fraction, spec.seed) for of_one in versions.values())
    return [example for cut in cuts for example in members(cut.held)]


def require_fit(spec: Spec, frozen: Frozen) -> None:
    """Refuse a frozen test with labels that the spec lacks, with groups from another column, or without parts of the
    inputs that the spec reads."""
    task = task_of(spec.task)
    unknown_sets = [unknown for example in frozen.examples if (unknown := unknown_labels(task, example.answer))]
    if unknown_sets:
        counts = Counter(label for unknown in unknown_sets for label in unknown)
        labels = ", ".join(f"'{label}' ({count})" for label, count in counts.most_common(5))
        raise UserError(
            f"{len(unknown_sets)} examples of the frozen test have a label the spec lacks: {labels}.",
            where=spec.frozen_folder,
            fix="Put these labels back under task.labels. For a job with other labels, move the frozen test away and "
            "freeze another.",
        )
    others = frozen.groups - {None, spec.data.group}
    if others:
        raise UserError(
            f"The frozen test has its groups from the column '{min(map(str, others))}', the spec "
            + (f"names '{spec.data.group}'." if spec.data.group else "names none."),
            where=spec.frozen_folder,
            why="Rows of a group that is in the test could not be kept out of train.",
            fix="Name that column as data.group.",
        )
    _require_form(spec, frozen)


def _require_form(spec: Spec, frozen: Frozen) -> None:
    now = InputForm.of(spec.task)
    if form := next((form for form in frozen.forms if not form.can_become(now)), None):
        template = json.dumps(str(form.template), ensure_ascii=False) if form.template else "null"
        raise UserError(
            "The frozen test's inputs were read otherwise than the spec reads them: with task.earlier_turns: "
            f"{form.earlier_turns} and task.input_template: {template}.",
            where=spec.frozen_folder,
            why="What was taken off them or joined is lost, so rows of the test could not be kept out of train.",
            fix="Set both keys so. For other inputs, move the frozen test away and freeze another.",
        )


def _require_rest(rest: int, rows: int) -> None:
    if rows and not rest:
        raise UserError(
            f"All {rows} training rows are in the frozen test, nearly repeat it, or share a group with it.",
            fix="Add rows of other groups, or freeze a test that shares none with train.",
        )


def _require_parts(spec: Spec, dataset: Dataset, rows: int, largest: int) -> None:
    if all(dataset.test.values()) and dataset.train:
        return
    together = f"The largest block that stays together (groups, repeats, near copies) has {largest} rows."
    raise UserError(
        f"{rows} rows are too few to hold out a test part.",
        where=spec.path(spec.data.train),
        why=together if largest > 1 else None,
        fix="Add rows, raise data.test_fraction, or name a test file under data.test.",
    )


def _counts(dataset: Dataset) -> dict[str, Any]:
    tests = {name: len(examples) for name, examples in dataset.test.items()}
    return {"train": len(dataset.train), "validation": len(dataset.validation), **tests}


def _absent(task: Task, dataset: Dataset) -> list[str]:
    """Labels that are in the data, but not in the test."""
    all_labels, tested = (
        {label for example in examples for label in counted(task, example.answer)}
        for examples in ([*dataset.train, *dataset.validation], dataset.test_examples)
    )
    return sorted(all_labels - tested)


def _print_remarks(result: Mapping[str, Any], rows: int, held: int, target: float) -> None:
    """Print the facts that matter for the figures: large blocks, the frozen test, withheld rows, absent labels."""
    largest = result["blocks"]["largest"]
    if 0 < target < largest:
        say(
            f"  ! Groups, repeats and near copies join {largest} of {rows} rows ({100 * largest / rows:.0f} %), more "
            f"than should be held out: {held} rows are held out instead of {target:.0f}."
        )
    if "frozen" in result:
        say(f"  The test is the frozen one, version {result['frozen']['version']} ({result['frozen']['sha256'][:12]}).")
    if "withheld" in result:
        listing = ", ".join(f"{reason} ({count})" for reason, count in result["withheld"].items())
        say(f"  ! {sum(result['withheld'].values())} rows are withheld: {listing}. They are in withheld.jsonl.")
    if result.get("absent_from_test"):
        say(
            f"  ! The newest rows lack {len(result['absent_from_test'])} labels, which the test can't measure: "
            f"{', '.join(result['absent_from_test'][:10])}."
        )
