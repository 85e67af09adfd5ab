"""Examining the data: every part is read and scanned once, then the checks judge all parts together."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tunewright.core.artifacts import write_json, write_jsonl
from tunewright.core.progress import say, track
from tunewright.core.workers import each
from tunewright.data.checks import Finding, FindingPlace, judge, scores
from tunewright.data.checks.scan import Scan, Table, scan
from tunewright.data.checks.survey import Split, Survey
from tunewright.data.job import Job
from tunewright.data.readers.parts import PART, parts
from tunewright.data.report import write_report

FINDINGS = "findings.json"
REPORT = "report.html"
SUSPECTS = "suspects.jsonl"
EXAMPLES = "examples"
QUARANTINE = "quarantine"
PARTS = ".parts-"
"""Prefix of the folder of unfinished work. The next check removes a folder that a killed one left."""


@dataclass(frozen=True)
class Examination:
    """The content of `findings.json`."""

    rows: dict[str, int]
    """Readable rows of each split."""
    quarantined: int
    """Rows that can't be read."""
    scores: dict[str, int | None]
    """From 0 to 100, by dimension; None where it could not be measured."""
    findings: list[Finding]


def examine(job: Job, output: Path) -> Examination:
    """Check the data and write the findings.

    Writes `examples/<split>.jsonl`, `quarantine/<split>.jsonl` with rows that can't be read, `findings.json`,
    `suspects.jsonl` with rows that look mislabelled, and `report.html`. Memory is about 1 kB a row at the peak, plus
    one part of the data in each worker.

    Raises:
        UserError: a source gives no files.
    """
    for path in [*output.glob(f"{PARTS}*"), *(output / n for n in (EXAMPLES, QUARANTINE, FINDINGS, SUSPECTS, REPORT))]:
        _remove(path)  # remains of an earlier check
    with survey(job, output) as surveyed:
        findings, suspects = judge(surveyed)
        examination = Examination(
            {name: len(split.table) for name, split in surveyed.splits.items()},
            sum(split.quarantined for split in surveyed.splits.values()),
            scores(len(surveyed.train.table), findings),
            findings,
        )
        write_json(output / FINDINGS, asdict(examination))
        if suspects:
            write_jsonl(output / SUSPECTS, (suspect.row() for suspect in suspects))
        write_report(output / REPORT, surveyed, findings)
        return examination


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def load_examination(folder: Path) -> Examination:
    """The examination that `examine` wrote into a folder."""
    data = json.loads((folder / FINDINGS).read_text("utf-8"))
    findings = [
        Finding(**row | {"examples": tuple(FindingPlace(**place) for place in row["examples"])})
        for row in data.pop("findings")
    ]
    return Examination(**data, findings=findings)


@contextmanager
def survey(job: Job, output: Path) -> Iterator[Survey]:
    """One pass over the data. It writes examples and quarantine below `output`."""
    sources = job.files()
    tasks = [(name, pieces, job.sources[name].is_file()) for name, files in sources.items() for pieces in parts(files)]
    small = sum(file.path.stat().st_size for files in sources.values() for file in files) < PART
    # Inside the output folder, so that a cluster that sees one sees the other.
    with tempfile.TemporaryDirectory(dir=output, prefix=PARTS) as scratch:
        folders = [Path(scratch) / f"{number:06d}" for number in range(len(tasks))]
        scans: list[Scan] = []
        with track("read", len(tasks), "parts") as tracker:
            calls = [
                (pieces, name, alone, job, folder) for (name, pieces, alone), folder in zip(tasks, folders, strict=True)
            ]
            for number, scanned in enumerate(each(scan, calls, small=small), 1):
                scans.append(scanned)
                tracker.update(number)
        splits = {}
        for name in job.sources:
            numbers = [number for number, task in enumerate(tasks) if task[0] == name]
            sizes = [(folders[number] / "examples.jsonl").stat().st_size for number in numbers]
            examples = _concatenated(
                [folders[number] / "examples.jsonl" for number in numbers], output / EXAMPLES / f"{name}.jsonl"
            )
            _concatenated(
                [folders[number] / "quarantine.jsonl" for number in numbers], output / QUARANTINE / f"{name}.jsonl"
            )
            tables = [Table.load(folders[number] / "table.npz") for number in numbers]
            splits[name] = Split(job, [scans[number] for number in numbers], tables, sizes, examples)
        scans.clear()
    yield Survey(job, splits, {name: [p for of, pieces, _ in tasks if of == name for p in pieces] for name in sources})


def _concatenated(files: list[Path], target: Path) -> Path:
    """Join the files' content in `target`. A quarantine file stays absent where all files are empty."""
    present = [file for file in files if file.stat().st_size or target.parent.name == EXAMPLES]
    if present:
        target.parent.mkdir(exist_ok=True)
        present[0].replace(target)
        with target.open("ab") as stream:
            for file in present[1:]:
                with file.open("rb") as more:
                    shutil.copyfileobj(more, stream, 1 << 20)
                file.unlink()
    return target


def print_findings(findings: list[Finding]) -> None:
    """Print the findings, a line each, for the person watching a run."""
    for finding in findings:
        say(f"  {'✗' if finding.severity == 'error' else '!'} {finding.code} {finding.what}. {finding.fix}")
