"""The steps `check` and `split`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output, sha256_file, sha256_json
from tunewright.core.errors import UserError
from tunewright.data.checks import Finding
from tunewright.data.corrections import with_corrections
from tunewright.data.dataset import load_examples, save_dataset
from tunewright.data.examine import EXAMPLES, FINDINGS, examine, load_examination, tell
from tunewright.data.job import job_of
from tunewright.data.readers import documents_of
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.splits.frozen import read_frozen
from tunewright.data.splits.partition import partition
from tunewright.data.splits.withholding import save_withheld
from tunewright.documents import is_there, require_within


def raw_files(spec: Spec) -> dict[str, list[SourceFile]]:
    """The raw files a spec names: those of "train", the corrections behind them, and of each test split.

    Raises:
        UserError: a file, folder or pattern gives none, or the corrections were edited.
    """
    sources = {"train": spec.data.train, **spec.data.test}
    found = {name: files(spec.path(source)) for name, source in sources.items()}
    return found | {"train": with_corrections(found["train"], spec.corrections_folder)}


def documents_sha256(files: Iterable[SourceFile], column: str, root: Path | None) -> str:
    """SHA-256 of all documents that the rows of some files name, in order; one that is missing, or must not be read,
    counts as such.

    Args:
        root: the folder in which they must lie; None: that of the data.
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
        names: whether the files' names count too, because outputs quote them.

    Raises:
        UserError: the path or the pattern gives no file.
    """
    named = files(source)
    digests = [(file.name if names else "", sha256_file(file.path)) for file in named]
    return sha256_json([digests, documents_sha256(named, document, root) if document else ""])


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
    """Checked examples -> a dataset with train, validation and test parts, and `withheld.jsonl` of what is in none.

    Raises:
        UserError: the check found errors, all of which are listed; there are too few rows to hold a test part out; or
            the frozen test was edited or does not fit.
    """
    _refuse_errors(spec, inputs["check"])
    splits = {path.stem: load_examples(path) for path in sorted((inputs["check"] / EXAMPLES).glob("*.jsonl"))}
    made = partition(spec, splits, read_frozen(spec.frozen_folder) if spec.frozen_folder else None)
    save_dataset(output.path, made.dataset)
    save_withheld(output.path, made.withheld)
    output.result = made.result


def _place(spec: Spec, finding: Finding) -> str | Path:
    """Where to look first: a line of a file, with its whole path where the data lies on this machine."""
    if not finding.examples:
        return spec.path(spec.data.train)
    where = finding.examples[0].where
    name, _, line = where.rpartition(":")
    try:
        named = raw_files(spec).get(finding.split or "train", [])
    except UserError:
        named = []  # the step is given what the check has made, not the data
    return next((f"{file.path}:{line}" for file in named if file.name == name), where)


def _refuse_errors(spec: Spec, check: Path) -> None:
    errors = [finding for finding in load_examination(check).findings if finding.severity == "error"]
    if errors:
        raise UserError(
            "The data can't be used: " + "; ".join(f"{finding.code} {finding.what}" for finding in errors) + ".",
            where=_place(spec, errors[0]),
            why=f"All findings are in {check / FINDINGS}.",
            fix=" ".join(dict.fromkeys(finding.fix for finding in errors)),
        )
