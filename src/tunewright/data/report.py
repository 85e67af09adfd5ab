"""The data report: scores, findings with examples, and the distributions of labels and lengths, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.page import render
from tunewright.data.checks import DIMENSIONS, Finding, scores, sentence
from tunewright.data.checks.scan import Indices
from tunewright.data.checks.survey import Survey

_LABELS = 40
"""Labels that the chart shows."""
_BINS = 24


def write_report(path: Path, survey: Survey, findings: Sequence[Finding]) -> None:
    data_scores = scores(len(survey.train.table), findings)
    context = {
        "name": survey.job.sources["train"].name,
        "sentence": sentence({name: len(split.table) for name, split in survey.splits.items()}, findings),
        "scores": [(name, score, DIMENSIONS[name]) for name, score in data_scores.items()],
        "findings": findings,
        "splits": {name: len(split.table) for name, split in survey.splits.items()},
        "labels": _labels(survey),
        "histograms": [
            (title, name, _histogram(values))
            for name, split in survey.splits.items()
            for title, values in (
                ("Words in the request", split.table.words),
                ("Words in the answer", split.table.answer_words),
            )
            if len(values)
        ],
    }
    path.write_text(render("tunewright.data", "report.html.jinja", context), "utf-8")


def _labels(survey: Survey) -> dict[str, Any]:
    """The rows of each label in train and in all tests together, most frequent first."""
    train = survey.train.answers
    tests = {label: sum(split.answers[label] for split in survey.tests.values()) for label in survey.labels}
    shown = sorted(survey.labels, key=lambda label: -train[label])
    return {
        "rows": [(label, train[label], tests[label]) for label in shown[:_LABELS]],
        "more": max(0, len(shown) - _LABELS),
        "most": max([*train.values(), *tests.values(), 1]),
    }


def _histogram(values: Indices) -> dict[str, Any]:
    """Counts in equal bins up to the 99.5 % quantile; the last bin counts longer texts too."""
    top = max(int(np.quantile(values, 0.995)), 1)
    bins = min(_BINS, top)
    counts, edges = np.histogram(np.minimum(values, top), bins=bins, range=(0.5, top + 0.5))
    return {
        "bars": list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)),
        "most": int(max(counts.max(), 1)),
        "top": top,
        "median": float(np.median(values)),
        "longest": int(values.max()),
    }
