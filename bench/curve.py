"""Is the learning curve's interval honest? Start from a part of the data, forecast, then really train on more.

    python bench/curve.py banking77 snips bitext   # on these the settings were chosen
    python bench/curve.py clinc150 domains tickets # on these none was

The data sets: bench/data_sets.py. For each seed a quarter of the training part is held out, by whole groups;
nested starts of the rest forecast the accuracy and the gain at twice their size, at five times, and with all the rest.
Truth is the same cheap model trained at those sizes and asked the held-out quarter, so that it has noise of its own:
"covered" compares each interval with the mean of the truth over the seeds, "own" with its own seed's. Official test
parts are not used: their shares of labels differ from the training parts', which no curve can know. Half an hour of
one core.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from data_sets import DATA

from tunewright.data.curve.classical import LinearSvmClassifier
from tunewright.data.curve.curve_points import measure
from tunewright.data.curve.learning_curve import CurveRange, range_of
from tunewright.data.curve.power_law import fit
from tunewright.data.splits.folds import group_of
from tunewright.tasks import Example, Meta

ROOT = Path(__file__).parents[1]
SEEDS = range(4)


def rows(path: Path, label: str = "label", group: str = "", keep: Callable[[Any], bool] = bool) -> list[Example]:
    read = [row for row in map(json.loads, path.open(encoding="utf-8")) if keep(row)]
    return [Example.of(r["text"], r[label], Meta(id=str(n), group=r.get(group))) for n, r in enumerate(read)]


def in_scope(row: Any) -> bool:
    return bool(row["label"] != "oos")


SETS: dict[str, tuple[Callable[[], list[Example]], tuple[float, ...]]] = {
    "banking77": (lambda: rows(DATA / "banking77" / "train.jsonl"), (0.11, 0.25, 0.5)),
    "snips": (lambda: rows(DATA / "snips" / "train.jsonl"), (0.02, 0.11, 0.25, 0.5)),
    "clinc150": (lambda: rows(DATA / "clinc150_oos" / "train.jsonl", keep=in_scope), (0.14, 0.5)),
    "domains": (lambda: rows(DATA / "clinc150_oos" / "train.jsonl", "domain", keep=in_scope), (0.02, 0.11)),
    "bitext": (lambda: rows(DATA / "bitext_support" / "train.jsonl"), (0.11, 0.25, 0.5)),
    "tickets": (lambda: rows(ROOT / "examples" / "tickets" / "data" / "train.jsonl", group="phrasing"), (0.55,)),
}


def nested(examples: list[Example], seed: int) -> Callable[[float], list[Example]]:
    """Share -> so much of the examples, by whole groups drawn at random; a smaller share is a part of a larger one."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[group_of(example)].append(example)
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    return lambda share: [e for name in names[: round(share * len(names))] for e in groups[name]]


def accuracy(train: list[Example], held: list[Example]) -> float:
    model = LinearSvmClassifier([e.request for e in train], [e.answer for e in train])
    given = model.predict([e.request for e in held])
    return fmean(label == e.answer for label, e in zip(given, held, strict=True))


def trials(name: str) -> list[dict[str, Any]]:
    """One for each seed, start and target: forecasts and truth."""
    load, shares = SETS[name]
    examples, found = load(), []
    for seed in SEEDS:
        part = nested(examples, seed)
        pool = part(0.75)
        known = {id(example) for example in pool}
        held = [example for example in examples if id(example) not in known]
        truth: dict[float, float] = {}
        for share in shares:
            start = part(0.75 * share)
            began = time.perf_counter()
            points = measure(start, seed)
            seconds = time.perf_counter() - began
            curves = fit(
                points.sizes, points.errors, points.covariance, len(start) / len(set(map(group_of, start))), seed
            )
            for target, end in {"2 x": 2 * share, "5 x": 5 * share, "all": 1.0}.items():
                if end > 1.001 or end < 1.2 * share:
                    continue
                end = min(end, 1.0)
                for size in (share, end):
                    if size not in truth:
                        truth[size] = accuracy(part(0.75 * size), held)
                more = len(part(0.75 * end))
                now, then = curves.now(len(start)), curves.later(more)
                found.append(
                    {
                        "rows": len(start),
                        "share": share,
                        "target": target,
                        "more": more,
                        "seconds": seconds,
                        "gain": range_of(now - then),
                        "accuracy": range_of(1 - then),
                        "real gain": truth[end] - truth[share],
                        "real accuracy": truth[end],
                    }
                )
    return found


def inside(interval: CurveRange, value: float) -> bool:
    # Gains are shown to a tenth of a point, and are compared so.
    return round(interval.low, 3) <= round(value, 3) <= round(interval.high, 3)


def main(names: list[str]) -> None:
    print("| data | rows | to | forecast gain | mean real gain | covered | own | accuracy covered | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    totals: dict[str, list[tuple[bool, bool, bool, bool]]] = defaultdict(list)
    for name in names:
        cells = defaultdict(list)
        for trial in trials(name):
            cells[trial["share"], trial["target"]].append(trial)
        for (_, target), same in cells.items():
            gain, level = fmean(t["real gain"] for t in same), fmean(t["real accuracy"] for t in same)
            marks = [
                (
                    inside(t["gain"], gain),
                    inside(t["gain"], t["real gain"]),
                    inside(t["accuracy"], level),
                    inside(t["accuracy"], t["real accuracy"]),
                )
                for t in same
            ]
            totals[f"{name}, {target}"] += marks
            value, low, high = (100 * fmean(getattr(t["gain"], end) for t in same) for end in ("value", "low", "high"))
            forecast = f"{value:.1f} ({low:.1f} to {high:.1f})"
            covered, own, level_covered, _ = (f"{sum(mark[i] for mark in marks)}/{len(marks)}" for i in range(4))
            print(
                f"| {name} | {same[0]['rows']:,} | {target}, {same[0]['more']:,} | {forecast} "
                f"| {100 * gain:.1f} | {covered} | {own} | {level_covered} | {fmean(t['seconds'] for t in same):.0f} |",
                flush=True,
            )
    print("\n| data, target | trials | gain covered | own | accuracy covered | own |\n|---|---|---|---|---|---|")
    totals["all"] = [mark for marks in list(totals.values()) for mark in marks]
    for name, marks in totals.items():
        shares = " | ".join(f"{100 * fmean(mark[i] for mark in marks):.0f} %" for i in range(4))
        print(f"| {name} | {len(marks)} | {shares} |")


if __name__ == "__main__":
    main(sys.argv[1:] or list(SETS))
