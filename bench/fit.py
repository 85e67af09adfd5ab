"""Hold the fit forecast against every labelled data set of which more is known, and count its errors.

    python bench/fit.py                  # the data sets: bench/data_sets.py; about ten minutes of one core

"Known" is what tuned models reached: the evidence book's rows for this very job. The rule stands on them, so each job
is forecast from the others alone, those drawn from the same source left out too ("held out"). The goal is 90 % in the
first table; the second counts errors over all of GOALS: "poor fit", which says "don't", where a training reached the
goal; "good fit" where one did not. Parts of data sets are those that bench/diagnosis.py trains on.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from data_sets import DATA
from diagnosis import SETS as DRAWN
from diagnosis import examples as drawn_examples
from diagnosis import first_tickets

from tunewright.core.artifacts import read_jsonl
from tunewright.data.curve.classical import LinearSvmClassifier
from tunewright.economics.evidence import EvidenceBook, evidence_book
from tunewright.economics.facts import gather
from tunewright.economics.fit import FitForecast, forecast_from
from tunewright.tasks import Example, Meta

ROOT = Path(__file__).parents[1]
TICKETS = ROOT / "examples" / "tickets" / "data"
GOAL = 0.9
CASCADE = "worth a try, as a cascade"
GOALS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99)
# Folder, answer, group, test file.
FILES = {
    "BANKING77": (DATA / "banking77", "label", "", "test"),
    "BANKING77, 10 a label": (DATA / "banking77", "label", "", "test"),
    "CLINC150, in scope": (DATA / "clinc150_oos", "label", "", "test"),
    "SNIPS": (DATA / "snips", "label", "", "test"),
    "Bitext": (DATA / "bitext_support", "label", "", "test"),
    "tickets of the first set, new phrasings": (Path(), "label", "phrasing", "test_unseen_phrasing"),
    "tickets of today, new phrasings": (TICKETS, "label", "phrasing", "test_unseen_phrasing"),
    "car rental": (DATA / "car_rental_comments", "label", "", "test"),
    "SROIE": (DATA / "sroie_receipts", "entities", "", "test"),
    "usaddress": (DATA / "pkg_usaddress", "entities", "", "test"),
    "invoices": (DATA / "demo_invoices", "entities", "", "test_unseen_layout"),
    "Bitext answers": (DATA / "bitext_support", "answer", "", "test"),
}
# Set, seed and rows of a part of a data set, as bench/diagnosis.py names them.
PARTS = {
    "CLINC150 domains, 384 rows": "domains:5:384",
    "CLINC150 domains, 120 rows": "domains:6:120",
    "SNIPS, 384 rows": "snips:6:384",
    "BANKING77, 10 labels, 120 rows": "banking77:6:120",
    "Bitext, 10 labels, 120 rows": "bitext:6:120",
}


def load(name: str) -> tuple[list[Example], list[Example]]:
    """Training and test rows."""
    if name in PARTS:
        source, seed, size = PARTS[name].split(":")
        drawn, _, held = DRAWN[source](int(seed), int(size))
        return drawn_examples(drawn), drawn_examples(held)
    folder, answer, group, test = FILES[name]
    if "first set" in name:
        read, tested = first_tickets("train"), first_tickets(test)
    else:
        read, tested = (read_jsonl(folder / f"{part}.jsonl") for part in ("train", test))
    if "CLINC" in name:
        read, tested = ([row for row in part if row["label"] != "oos"] for part in (read, tested))
    if "10 a label" in name:
        seen = Counter[str]()
        read = [row for row in read if seen[row["label"]] < 10 and not seen.update([row["label"]])]
    train, tests = (
        [
            Example.of(
                row["text"],
                row[answer] if isinstance(row[answer], str) else json.dumps(row[answer], ensure_ascii=False),
                Meta(id=str(number), group=row.get(group)),
            )
            for number, row in enumerate(part)
        ]
        for part in (read, tested)
    )
    return train, tests


def without(book: EvidenceBook, name: str) -> EvidenceBook:
    """The book without what is known of data from the same source."""
    source = name.replace(",", " ").split()[0]
    others = [row for row in book.classification if not row.data.startswith(source)]
    return book.model_copy(update={"classification": others})


def main(names: list[str]) -> None:
    book, outcomes = evidence_book(), Counter[tuple[str, bool]]()
    trainings = within = 0
    print(
        "| data | rows | labels | groups a label | SVM % | on the test | suspects % | answer | expected % "
        "| held out: answer | expected % | known % | inside |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        examples, tests = load(name)
        facts = gather(examples, len(tests), seed=0)
        others, known = without(book, name), [row.accuracy / 100 for row in book.classification if row.data == name]
        whole, apart = (forecast_from(facts, GOAL, each) for each in (book, others))
        svm = facts.curve.now if facts.curve else None
        on_test = accuracy_of_svm(examples, tests) if svm else None
        inside = sum(
            apart.low <= each <= apart.high for each in known if apart.low is not None and apart.high is not None
        )
        print(
            f"| {name} | {facts.rows:,} | {facts.answers:,} | {facts.groups / facts.answers:.0f} "
            f"| {f'{100 * svm.value:.1f} ({span(svm.low, svm.high)})' if svm else ''} "
            f"| {f'{100 * on_test:.1f}' if on_test else ''} "
            f"| {f'{100 * facts.suspects:.1f}' if facts.suspects is not None else ''} "
            f"| {whole.answer} | {expected(whole)} | {apart.answer} | {expected(apart)} "
            f"| {', '.join(f'{100 * each:.1f}' for each in known) or 'nothing'} "
            f"| {f'{inside} of {len(known)}' if known else ''} |",
            flush=True,
        )
        trainings += len(known)
        within += inside
        for goal in GOALS:
            forecast = forecast_from(facts, goal, others)
            # Who is told to tune nothing gets the SVM.
            for accuracy in [on_test] if forecast.answer == "classical" and on_test else known:
                outcomes[said(forecast), accuracy >= goal] += 1
    print(
        f"\n{within} of {trainings} trainings lie in what is expected without their data's own "
        f"evidence. Over {len(GOALS)} goals and all trainings:\n"
    )
    print("| answer | reached the goal | did not |\n|---|---|---|")
    for answer in ("classical", "good fit", "worth a try", CASCADE, "poor fit", "no signal", "too little data"):
        print(f"| {answer} | {outcomes[answer, True]} | {outcomes[answer, False]} |")


def said(forecast: FitForecast) -> str:
    alone = forecast.high is None or forecast.high >= forecast.goal
    return CASCADE if forecast.answer == "worth a try" and not alone else forecast.answer


def accuracy_of_svm(train: list[Example], tests: list[Example]) -> float:
    model = LinearSvmClassifier([row.request for row in train], [row.answer for row in train])
    predicted = model.predict([row.request for row in tests])
    return sum(label == row.answer for label, row in zip(predicted, tests, strict=True)) / len(tests)


def expected(forecast: FitForecast) -> str:
    return span(forecast.low, forecast.high) if forecast.low is not None and forecast.high is not None else ""


def span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:] or [*FILES, *PARTS])
