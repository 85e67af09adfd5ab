"""Hold the fit forecast against every labelled data set of which more is known.

    python bench/fit.py                  # the data lie at <repository>/../shared/data; about ten minutes on 2 cores

The goals are 90 % everywhere. "known" is what tuned models are known to reach, where that is known: the evidence book's
rows for this very data set are what the rule stands on, so that it is forecast a second time without them ("held out").
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tunewright.assess.evidence import evidence_book
from tunewright.assess.fit import expected_range, forecast_fit
from tunewright.tasks import Example, Meta

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
TICKETS = ROOT / "examples" / "tickets" / "data"
GOAL = 0.9
# Folder, answer, group, test file, what the evidence book calls it (its beginning), what is known.
SETS = {
    "banking77": (DATA / "banking77", "label", "", "test", "BANKING77", "88.3 to 93.7"),
    "banking77, 10 a label": (DATA / "banking77", "label", "", "test", "BANKING77", "84.3 to 85.2"),
    "clinc150, in scope": (DATA / "clinc150_oos", "label", "", "test", "CLINC150", "94.5 to 97.6"),
    "snips": (DATA / "snips", "label", "", "test", "SNIPS", "98.6"),
    "bitext": (DATA / "bitext_support", "label", "", "test", "Bitext", "unknown; SVM 99.6"),
    "tickets": (TICKETS, "label", "phrasing", "test_unseen_phrasing", "demo tickets", "76.9 to 86.9"),
    "tickets, no groups": (TICKETS, "label", "", "test", "demo tickets", "96.2 to 98.8 (seen phrasings)"),
    "car rental": (DATA / "car_rental_comments", "label", "", "test", "car rental", "unknown; SVM 56.1"),
    "sroie": (DATA / "sroie_receipts", "entities", "", "test", "SROIE", "F1 91 to 98"),
    "usaddress": (DATA / "pkg_usaddress", "entities", "", "test", "usaddress", "unknown"),
    "demo invoices": (DATA / "demo_invoices", "entities", "", "test_unseen_layout", "invoices", "unknown"),
    "bitext answers": (DATA / "bitext_support", "answer", "", "test", "Bitext", "unknown"),
}


def load(name: str) -> tuple[list[Example], int]:
    folder, answer, group, test, _, _ = SETS[name]
    read = [json.loads(line) for line in (folder / "train.jsonl").open(encoding="utf-8")]
    tests = [json.loads(line) for line in (folder / f"{test}.jsonl").open(encoding="utf-8")]
    if "clinc" in name:
        read, tests = ([row for row in part if row["label"] != "oos"] for part in (read, tests))
    if "10 a label" in name:
        seen: dict[str, int] = {}
        read = [row for row in read if seen.setdefault(row["label"], 0) < 10 and not seen.update(
            {row["label"]: seen[row["label"]] + 1})]  # fmt: skip
    examples = [
        Example.of(
            row["text"],
            row[answer] if isinstance(row[answer], str) else json.dumps(row[answer], ensure_ascii=False),
            Meta(id=str(number), group=row.get(group)),
        )
        for number, row in enumerate(read)
    ]
    return examples, len(tests)


def main(names: list[str]) -> None:
    print("| data | rows | labels | groups a label | SVM % | macro-F1 | suspects % | twice the data | answer "
          "| expected % | held out % | known % | s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        examples, test_rows = load(name)
        began = time.perf_counter()
        forecast = forecast_fit(examples, goal=GOAL, seed=0, test_rows=test_rows)
        seconds = time.perf_counter() - began
        facts, curve = forecast.facts, forecast.facts.curve
        others = [row for row in evidence_book().classification if not row.data.startswith(SETS[name][4])]
        held_out = svm = macro = gain = ""
        if curve and curve.now:
            # The nearest evidence among the other data sets, by the same rule.
            book = evidence_book().model_copy(update={"classification": others})
            held_out = span(*expected_range(curve.now, book.near(facts.groups / facts.answers), facts.ceiling))
            svm, macro = span(curve.now.low, curve.now.high), f"{100 * (curve.macro_f1 or 0):.1f}"
            gain = "{:+.1f} ({:.1f} to {:.1f})".format(*(100 * v for v in vars(curve.forecasts[0].gain).values()))
        expected = span(forecast.low, forecast.high) if forecast.low and forecast.high else ""
        suspects = f"{100 * facts.suspects:.1f}" if facts.suspects is not None else ""
        print(f"| {name} | {facts.rows:,} | {facts.answers:,} | {facts.groups / facts.answers:.0f} | {svm} | {macro} "
              f"| {suspects} | {gain} | {forecast.answer} | {expected} | {held_out} | {SETS[name][5]} "
              f"| {seconds:.0f} |", flush=True)  # fmt: skip


def span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:] or list(SETS))
