"""The steps `check` and `split`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.artifacts import Output, write_json
from tunewright.data.dataset import Dataset, load_examples, save_dataset, save_examples
from tunewright.data.findings import check_splits
from tunewright.data.readers import read_rows
from tunewright.data.split import hold_out
from tunewright.errors import UserError
from tunewright.progress import say
from tunewright.spec import Spec
from tunewright.tasks import Example, Meta, task_of


def raw_files(spec: Spec) -> dict[str, Path]:
    """The raw files a spec names: "train" and each test split."""
    return {"train": spec.path(spec.data.train), **{name: spec.path(path) for name, path in spec.data.test.items()}}


def run_check(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:  # noqa: ARG001 (the step contract)
    """Raw files -> `examples/<split>.jsonl` and `findings.json`.

    Raises:
        UserError: a file can't be read, a column is missing, or a finding is an error; all of them are listed.
    """
    splits = {name: _examples(spec, name, path) for name, path in raw_files(spec).items()}
    found = check_splits(splits, task_of(spec.task).answers)
    for finding in found:
        say(f"  {'✗' if finding.severity == 'error' else '!'} {finding.code} {finding.what}. {finding.fix}")
    errors = [f for f in found if f.severity == "error"]
    if errors:
        first = errors[0].examples[0] if errors[0].examples else None
        raise UserError(
            "The data can't be used: " + "; ".join(f"{f.code} {f.what}" for f in errors) + ".",
            where=first or spec.path(spec.data.train),
            fix=" ".join(dict.fromkeys(f.fix for f in errors)),
        )
    for name, examples in splits.items():
        save_examples(output.path / "examples" / f"{name}.jsonl", examples)
    write_json(output.path / "findings.json", [asdict(finding) for finding in found])
    output.result = {"rows": {name: len(examples) for name, examples in splits.items()}, "findings": len(found)}


def run_split(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Checked examples -> a dataset with train, validation and test parts."""
    files = {path.stem: load_examples(path) for path in sorted((inputs["check"] / "examples").glob("*.jsonl"))}
    rows = files.pop("train")
    if not files:
        rows, test = hold_out(rows, spec.data.test_fraction, spec.seed)
        files = {"test": test}
    train, validation = hold_out(rows, spec.data.validation_fraction, spec.seed + 1)
    if not all(files.values()) or not train:
        raise UserError(
            f"{len(rows)} rows are too few to hold out a test part.",
            where=spec.path(spec.data.train),
            fix="Add rows, raise data.test_fraction, or name a test file under data.test.",
        )
    save_dataset(output.path, Dataset(train, validation, files))
    output.result = {"train": len(train), "validation": len(validation), **{k: len(v) for k, v in files.items()}}


def _examples(spec: Spec, name: str, path: Path) -> list[Example]:
    return [_example(spec, f"{path}:{number}", f"{name}-{number}", row) for number, row in read_rows(path)]


def _example(spec: Spec, where: str, key: str, row: dict[str, Any]) -> Example:
    data = spec.data
    for column in (data.text, data.label, *([data.group] if data.group else [])):
        if column not in row:
            raise UserError(
                f"This row has no column '{column}'.",
                where=where,
                why=f"Its columns are: {', '.join(map(str, row)) or 'none'}.",
                fix="Set data.text, data.label and data.group in the spec to your column names.",
            )
        if not isinstance(row[column], (str, int)) or isinstance(row[column], bool):
            raise UserError(f"The column '{column}' holds {row[column]!r}, not text.", where=where)
    group = str(row[data.group]) if data.group else None
    # The file's name without its folder: a dataset's hash must not depend on where it lies.
    source = Path(where).name
    return Example.of(str(row[data.text]), str(row[data.label]), Meta(id=key, source=source, group=group))
