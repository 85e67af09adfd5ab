"""The steps `check` and `split`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output, sha256_file, sha256_json
from tunewright.core.errors import UserError
from tunewright.data.checks import Finding
from tunewright.data.dataset import load_examples, save_dataset
from tunewright.data.examine import EXAMPLES, FINDINGS, examine, load_examination, print_findings
from tunewright.data.job import files_of, job_of
from tunewright.data.readers import documents_of
from tunewright.data.readers.lines import typed
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.splits.frozen import read_frozen
from tunewright.data.splits.partition import partition
from tunewright.data.splits.withholding import save_withheld
from tunewright.documents import is_there, require_within
from tunewright.tasks.input_form import InputForm


def raw_files(spec: Spec) -> dict[str, list[SourceFile]]:
    """The raw files that a spec names: those of "train", then the corrections, and those of each test split.

    Raises:
        UserError: a file, folder or pattern gives no file, or the corrections were edited.
    """
    sources = {"train": spec.data.train, **spec.data.test}
    return files_of({name: spec.path(source) for name, source in sources.items()}, spec.corrections_folder)


def documents_sha256(files: Iterable[SourceFile], column: str, root: Path | None) -> str:
    """SHA-256 of all documents that the rows of some files name, in order.

    A document that is missing or lies outside of the allowed folder changes the hash too.

    Args:
        root: the folder in which they must lie; None: the folder of the data.
    """
    digest = hashlib.sha256()
    for file in files:
        for path in documents_of(file, column):
            digest.update(_state(path, root or file.folder).encode() + b"\n")
    return digest.hexdigest()


def _state(path: Path, root: Path) -> str:
    try:
        require_within(root, path)
    except UserError:
        return "outside"
    return sha256_file(path) if is_there(path) else "missing"


def data_sha256(source: Path, document: str | None, root: Path | None, *, names: bool = False) -> str:
    """SHA-256 of the files that a path or a pattern names, and of the documents that their rows name.

    Args:
        document: the column that names documents.
        root: as in `documents_sha256`.
        names: whether the files' names count too; they must where outputs quote them.

    Raises:
        UserError: the path or the pattern gives no file.
    """
    matches = files(source)
    digests = [(file.name if names else "", sha256_file(file.path)) for file in matches]
    return sha256_json([digests, documents_sha256(matches, document, root) if document else ""])


def run_check(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:  # noqa: ARG001 (the step contract)
    """Raw files -> everything that `tunewright.data.examine.examine` writes.

    The step succeeds whatever the findings' severity; the step `split` refuses data with errors.
    """
    examined = examine(job_of(spec), output.path)
    print_findings([finding for finding in examined.findings if finding.severity != "note"])
    output.result = {
        "rows": examined.rows,
        "findings": len(examined.findings),
        "quarantined": examined.quarantined,
    }


def run_split(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Checked examples -> a dataset with train, validation and test parts, and `withheld.jsonl` with all other rows.

    Raises:
        UserError: the check found errors (the message lists all); there are too few rows to hold out a test part; or
            the frozen test was edited or does not fit.
    """
    _refuse_errors(spec, inputs["check"])
    splits = {path.stem: load_examples(path) for path in sorted((inputs["check"] / EXAMPLES).glob("*.jsonl"))}
    frozen = read_frozen(spec.frozen_folder).as_read(InputForm.of(spec.task)) if spec.frozen_folder else None
    parts = partition(spec, splits, frozen)
    save_dataset(output.path, parts.dataset)
    save_withheld(output.path, parts.withheld)
    output.result = parts.result


def typable(spec: Spec, finding: Finding) -> Finding:
    """A finding whose command for the shell has the paths of the files here. In the check's output it has their paths
    within the data, which are the same on every machine."""
    before, mark, command = finding.what.partition("ype: ")
    for file in _files_of(spec, finding.split) if mark else ():
        command = command.replace(f" {typed(file.name)} ", f" {typed(file.path)} ")
    return replace(finding, what=f"{before}{mark}{command}")


def _files_of(spec: Spec, split: str) -> list[SourceFile]:
    """The raw files of a split; none where this machine lacks the data: a step has the check's output alone."""
    try:
        return raw_files(spec).get(split or "train", [])
    except UserError:
        return []


def _place(spec: Spec, finding: Finding) -> str | Path:
    """The place to look at first: a line of a file, with its full path where the data lies on this machine."""
    if not finding.examples:
        return spec.path(spec.data.train)
    where = finding.examples[0].where
    name, _, line = where.rpartition(":")
    files_here = _files_of(spec, finding.split)
    return next((f"{file.path}:{line}" for file in files_here if file.name == name), where)


def _refuse_errors(spec: Spec, check: Path) -> None:
    errors = [finding for finding in load_examination(check).findings if finding.severity == "error"]
    if errors:
        raise UserError(
            "The data can't be used: "
            + "; ".join(f"{finding.code} {typable(spec, finding).what}" for finding in errors)
            + ".",
            where=_place(spec, errors[0]),
            why=f"All findings are in {check / FINDINGS}.",
            fix=" ".join(dict.fromkeys(finding.fix for finding in errors)),
        )
