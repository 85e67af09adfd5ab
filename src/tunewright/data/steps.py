"""The steps `check` and `split`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunewright.artifacts import Output
from tunewright.data.dataset import Dataset, load_examples, save_dataset
from tunewright.data.examine import EXAMPLES, FINDINGS, examine, load_examination, tell
from tunewright.data.job import job_of
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.split import hold_out
from tunewright.errors import UserError
from tunewright.spec import Spec


def raw_files(spec: Spec) -> dict[str, list[SourceFile]]:
    """The raw files a spec names: those of "train" and of each test split.

    Raises:
        UserError: a file, folder or pattern gives none.
    """
    sources = {"train": spec.data.train, **spec.data.test}
    return {name: files(spec.path(source)) for name, source in sources.items()}


def run_check(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:  # noqa: ARG001 (the step contract)
    """Raw files -> everything `tunewright.data.examine.examine` writes.

    Findings are written down, whatever their severity; the step `split` refuses data with errors.
    """
    examined = examine(job_of(spec), output.path)
    tell([finding for finding in examined.findings if finding.severity != "note"])
    output.result = {
        "rows": examined.rows,
        "findings": len(examined.findings),
        "quarantined": examined.quarantined,
    }


def run_split(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Checked examples -> a dataset with train, validation and test parts.

    Raises:
        UserError: the check found errors, all of which are listed, or there are too few rows to hold a test part out.
    """
    _refuse_errors(spec, inputs["check"])
    parts = {path.stem: load_examples(path) for path in sorted((inputs["check"] / EXAMPLES).glob("*.jsonl"))}
    rows = parts.pop("train")
    if not parts:
        rows, test = hold_out(rows, spec.data.test_fraction, spec.seed)
        parts = {"test": test}
    train, validation = hold_out(rows, spec.data.validation_fraction, spec.seed + 1)
    if not all(parts.values()) or not train:
        raise UserError(
            f"{len(rows)} rows are too few to hold out a test part.",
            where=spec.path(spec.data.train),
            fix="Add rows, raise data.test_fraction, or name a test file under data.test.",
        )
    save_dataset(output.path, Dataset(train, validation, parts))
    output.result = {"train": len(train), "validation": len(validation), **{k: len(v) for k, v in parts.items()}}


def _refuse_errors(spec: Spec, check: Path) -> None:
    errors = [finding for finding in load_examination(check).findings if finding.severity == "error"]
    if errors:
        raise UserError(
            "The data can't be used: " + "; ".join(f"{finding.code} {finding.what}" for finding in errors) + ".",
            where=errors[0].examples[0].where if errors[0].examples else spec.path(spec.data.train),
            why=f"All findings are in {check / FINDINGS}.",
            fix=" ".join(dict.fromkeys(finding.fix for finding in errors)),
        )
