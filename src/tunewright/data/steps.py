"""The steps `check` and `split`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tunewright.artifacts import Output, write_json
from tunewright.data.content import check_content
from tunewright.data.dataset import load_examples, save_dataset, save_examples
from tunewright.data.findings import Finding, Reading, check_readings, check_splits
from tunewright.data.frozen import read_frozen
from tunewright.data.partition import partition
from tunewright.data.readers import Columns, Fault, Note, read, write_quarantine
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.withholding import save_withheld
from tunewright.errors import UserError
from tunewright.progress import say
from tunewright.spec import Spec
from tunewright.tasks import Example, Meta, task_of

FINDINGS = "findings.json"
QUARANTINE = "quarantine"


def raw_files(spec: Spec) -> dict[str, list[SourceFile]]:
    """The raw files a spec names: those of "train" and of each test split.

    Raises:
        UserError: a file, folder or pattern gives none.
    """
    return {name: files(source) for name, source in _sources(spec).items()}


def _sources(spec: Spec) -> dict[str, Path]:
    """What the spec names, made absolute: a file, a folder or a pattern for "train" and each test split."""
    return {"train": spec.path(spec.data.train), **{name: spec.path(path) for name, path in spec.data.test.items()}}


def run_check(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:  # noqa: ARG001 (the step contract)
    """Raw files -> `examples/<split>.jsonl`, `quarantine/<split>.jsonl` of rows that can't be read, `findings.json`.

    Findings are written down, whatever their severity; the step `split` refuses data with errors.
    """
    readings = {name: _read(spec, name, source) for name, source in _sources(spec).items()}
    found = check_readings(readings, spec.data.max_unreadable)
    if not any(finding.severity == "error" for finding in found):
        splits = {name: reading.examples for name, reading in readings.items()}
        answers = task_of(spec.task).answers
        found += [*check_splits(splits, answers), *check_content(splits, answers)]
    for finding in found:
        say(f"  {'✗' if finding.severity == 'error' else '!'} {finding.code} {finding.what}. {finding.fix}")
    for name, reading in readings.items():
        save_examples(output.path / "examples" / f"{name}.jsonl", reading.examples)
        if reading.faults:
            (output.path / QUARANTINE).mkdir(exist_ok=True)
            write_quarantine(output.path / QUARANTINE / f"{name}.jsonl", reading.faults)
    write_json(output.path / FINDINGS, [asdict(finding) for finding in found])
    output.result = {
        "rows": {name: len(reading.examples) for name, reading in readings.items()},
        "findings": len(found),
        "quarantined": sum(len(reading.faults) for reading in readings.values()),
    }


def run_split(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Checked examples -> a dataset with train, validation and test parts, and `withheld.jsonl` of what is in none.

    Raises:
        UserError: the check found errors, all of which are listed; there are too few rows to hold a test part out; or
            the frozen test was edited or does not fit.
    """
    _refuse_errors(spec, inputs["check"])
    splits = {path.stem: load_examples(path) for path in sorted((inputs["check"] / "examples").glob("*.jsonl"))}
    made = partition(spec, splits, read_frozen(spec.frozen_folder) if spec.frozen_folder else None)
    save_dataset(output.path, made.dataset)
    save_withheld(output.path, made.withheld)
    output.result = made.result


def _refuse_errors(spec: Spec, check: Path) -> None:
    found = [Finding(**finding) for finding in json.loads((check / FINDINGS).read_text("utf-8"))]
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise UserError(
            "The data can't be used: " + "; ".join(f"{finding.code} {finding.what}" for finding in errors) + ".",
            where=errors[0].examples[0] if errors[0].examples else spec.path(spec.data.train),
            why=f"All findings are in {check / FINDINGS}.",
            fix=" ".join(dict.fromkeys(finding.fix for finding in errors)),
        )


def _read(spec: Spec, name: str, source: Path) -> Reading:
    """All rows of one split: as examples, or as faults."""
    data = spec.data
    columns = Columns(data.text, data.label, data.group)
    alone = source.is_file()
    reading = Reading([], [], [])
    for item in read(source, form=data.form, columns=columns):
        if isinstance(item, Fault):
            reading.faults.append(item)
        elif isinstance(item, Note):
            reading.notes.append(item)
        else:
            reading.examples.append(_named(item, name, alone=alone))
    return reading


def _named(example: Example, split: str, *, alone: bool) -> Example:
    """The example under a short id, without the columns that the spec does not name."""
    place = str(example.meta.source)
    key = place.rsplit(":", 1)[1] if alone else place
    meta = Meta(id=f"{split}-{key}", source=place, group=example.meta.group, time=example.meta.time)
    return example.model_copy(update={"meta": meta})
