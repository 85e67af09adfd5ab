"""What Evidently's drift preset says of the streams of `drift.py`, by its defaults; for an interpreter that has it.

    python bench/drift_evidently.py STREAMS.jsonl FIRST_DAY

A line of the file is a stream: the columns of its reference, then those of each day. As its documentation has it, each
day is the current data and the reference is the reference. Prints for each stream the first day, from FIRST_DAY on, on
which half of the columns have drifted (the preset's own alarm), and on which any has.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")
COLUMNS = DataDefinition(
    categorical_columns=["answer", "language"], numerical_columns=["confidence", "length", "unseen", "novelty"]
)
HALF, ANY = "half of the columns", "any column"


def drifted(reference: Dataset, current: Dataset) -> tuple[bool, bool]:
    """Whether half of the columns have drifted, and whether any has."""
    found = json.loads(Report([DataDriftPreset()]).run(current, reference).json())
    counts = next(metric["value"] for metric in found["metrics"] if "DriftedColumnsCount" in str(metric))
    return counts["share"] >= 0.5, counts["count"] > 0


def dataset(columns: dict[str, list[Any]]) -> Dataset:
    return Dataset.from_pandas(pandas.DataFrame(columns), data_definition=COLUMNS)


def first_days(line: str, begins: int) -> dict[str, int | None]:
    reference, *days = (dataset(columns) for columns in json.loads(line))
    first: dict[str, int | None] = {HALF: None, ANY: None}
    for day in range(begins, len(days)):
        for how, found in zip(first, drifted(reference, days[day]), strict=True):
            if found and first[how] is None:
                first[how] = day
        if None not in first.values():
            break
    return first


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as lines:
        print(json.dumps([first_days(line, int(sys.argv[2])) for line in lines]))
