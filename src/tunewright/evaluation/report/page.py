"""The report: one self-contained HTML file, and the same in Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import MANIFEST, read_jsonl
from tunewright.core.page import render
from tunewright.data.examine import load_examination
from tunewright.economics import price_book
from tunewright.evaluation.evidence import Record, by_test
from tunewright.evaluation.report.table import candidate_rows, second_measure
from tunewright.evaluation.statistics.ceiling import UNSEEN
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.verdict.comparison import API, CANDIDATE_LABELS, SERVED, Comparison, evidence_key, kind_in
from tunewright.evaluation.verdict.decision import Verdict
from tunewright.evaluation.verdict.payer import page
from tunewright.tasks import Example, task_of
from tunewright.training.diagnosis.history import CURVE, DIAGNOSIS

MISTAKES_SHOWN = 12


def verdict_data(spec: Spec, comparison: Comparison, verdict: Verdict, parity: dict[str, Any]) -> dict[str, Any]:
    """The content of `verdict.json`, from which terminal, Markdown and HTML are made."""
    payer = page(spec, comparison, verdict, price_book(spec.price_file))
    return {
        "name": spec.name,
        "verdict": asdict(verdict),
        "comparison": asdict(comparison),
        "parity": parity,
        "payer": asdict(payer),
    }


def write_report(
    spec: Spec,
    data: dict[str, Any],
    comparison: Comparison,
    evidence: Mapping[str, Sequence[Record]],
    examples: Mapping[str, Example],
    inputs: Mapping[str, Path],
    folder: Path,
) -> None:
    """Write `report.html` and `report.md` into `folder`.

    Args:
        data: the content of `verdict.json`, as `verdict_data` returns it.
        examples: the test examples by id.
        inputs: the folders of the verdict's input steps, for the curve, the findings and the provenance.
    """
    parts = by_test(evidence[SERVED])
    answered = {record.id: "cut" if record.cut else record.answer for record in evidence.get(API, ())}
    curve = read_jsonl(inputs["train"] / CURVE)
    labelled = comparison.splits if task_of(spec.task).answers else ()
    context = {
        **data,
        "rows": candidate_rows(data),
        "task": task_of(spec.task),
        "second": second_measure(data["comparison"]),
        "spec": spec,
        "scales_to_zero": price_book(spec.price_file).machine(spec.traffic.machine).scales_to_zero,
        "dots": [_dots(split, comparison) for split in comparison.splits],
        "kind": kind_in(evidence),
        "curve": _curve(curve) if curve else None,
        "diagnoses": json.loads((inputs["train"] / DIAGNOSIS).read_text("utf-8"))["diagnoses"],
        "unseen": UNSEEN,
        "labels_of": CANDIDATE_LABELS | {evidence_key(spec, name): name for name in spec.measured_apis},
        "confusions": {split: _confusions(parts[split]) for split in labelled},
        "fields": {split: comparison.candidates[SERVED].scores[split].fields for split in comparison.splits},
        "mistakes": [
            {"record": record, "text": examples[record.id].request, "api": answered.get(record.id)}
            for record in _surest_mistakes([record for part in parts.values() for record in part])
        ],
        "findings": load_examination(inputs["check"]).findings,
        "steps": [json.loads((path / MANIFEST).read_text("utf-8")) for path in inputs.values()],
    }
    for name in ("report.html", "report.md"):
        (folder / name).write_text(render("tunewright.evaluation", f"{name}.jinja", context), "utf-8")


def _percent(interval: Interval) -> dict[str, float]:
    return {"value": 100 * interval.value, "low": 100 * interval.low, "high": 100 * interval.high}


def _dots(split: str, comparison: Comparison) -> dict[str, Any]:
    """A dot with its interval for each measured candidate, in percent."""
    return {
        "split": split,
        "candidates": [
            {"label": candidate.label, "key": key, **_percent(candidate.scores[split].primary_metric)}
            for key, candidate in {**comparison.candidates, **comparison.apis}.items()
            if split in candidate.scores
        ],
    }


def _curve(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The curve as SVG paths in a box of 600 x 160, with a line for each adapter, and the scale's ends.

    Losses share a scale from 0 to `top`; the task's primary metric has its own, from 0 to 1.
    """
    losses = [row for row in rows if "loss" in row]
    measured = [row for row in rows if "primary_metric" in row]
    top = max(row[key] for row in rows for key in ("loss", "validation_loss") if key in row)
    steps = max(row["step"] for row in rows)
    return {
        "loss": _lines(losses, "loss", top, steps),
        "validation_loss": _lines(measured, "validation_loss", top, steps),
        "primary_metric": _lines(measured, "primary_metric", 1.0, steps),
        "top": top,
        "last": losses[-1]["loss"],
        "measured": measured[-1] if measured else None,
        "steps": steps,
        "adapters": len({row["seed_number"] for row in rows}),
    }


def _lines(rows: Sequence[dict[str, Any]], key: str, top: float, steps: int) -> dict[str, Any]:
    """A path through one figure of the rows, and its points."""
    lines: dict[int, list[tuple[str, str]]] = {}
    for row in rows:
        x, y = 600 * (row["step"] - 1) / max(steps - 1, 1), 160 - 150 * row[key] / top
        lines.setdefault(row["seed_number"], []).append((f"{x:.1f}", f"{y:.1f}"))
    path = " ".join("M" + " L".join(",".join(point) for point in points) for points in lines.values())
    return {"path": path, "points": [point for points in lines.values() for point in points]}


def _confusions(records: Sequence[Record]) -> dict[str, Any]:
    """Counts of the model's labels against the right ones."""
    labels = sorted({r.gold for r in records} | {r.answer for r in records})
    counts = Counter((r.gold, r.answer) for r in records)
    return {
        "labels": labels,
        "rows": [(gold, [counts[gold, answer] for answer in labels]) for gold in labels],
        "most": max(counts.values(), default=1),
    }


def _surest_mistakes(records: Sequence[Record]) -> list[Record]:
    return sorted((r for r in records if not r.right), key=lambda r: -(r.confidence or 0))[:MISTAKES_SHOWN]
