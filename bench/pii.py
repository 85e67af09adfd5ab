"""Precision and recall of `find_pii` by kind on the training part of presidio-research's synthetic sentences.

    python bench/pii.py                  # the data lie at <repository>/../shared/data
    python bench/pii.py --errors         # and what was missed or found wrongly (synthetic values)
    python bench/pii.py --with presidio  # the recognisers of presidio-analyzer that need no model, where installed

A found span is right when it overlaps a true span of its kind, and a true span is found when all of it is covered.
The `templates` part is not read. Kinds the data lack (keys, tokens, private keys) are covered by tests only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[2] / "shared" / "data"
TRUE_KINDS = {
    "CREDIT_CARD": "CARD",
    "DATE_TIME": "BIRTH_DATE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "PERSON": "PERSON",
    "PHONE_NUMBER": "PHONE",
    "US_SSN": "SSN",
}
Spans = list[tuple[int, int, str]]


def truth(row: dict[str, Any]) -> Spans:
    """The true spans; a date counts where the text speaks of a birth."""
    spans = [(s["start"], s["end"], TRUE_KINDS[s["type"]]) for s in row["spans"] if s["type"] in TRUE_KINDS]
    return [span for span in spans if span[2] != "BIRTH_DATE" or "birth" in row["text"].casefold()]


def by_tunewright() -> Callable[[str], Spans]:
    from tunewright.data.pii import find_pii

    return lambda text: [(span.start, span.end, span.kind) for span in find_pii(text)]


def by_presidio() -> Callable[[str], Spans]:
    from presidio_analyzer import predefined_recognizers

    kinds = ("CreditCard", "Email", "Iban", "Ip", "Phone", "UsSsn")
    recognisers = [getattr(predefined_recognizers, f"{kind}Recognizer")() for kind in kinds]

    def find(text: str) -> Spans:
        found = [r for one in recognisers for r in one.analyze(text, one.supported_entities, None) if r.score >= 0.4]
        return [(r.start, r.end, TRUE_KINDS[r.entity_type]) for r in found]

    return find


METHODS = {"tunewright": by_tunewright, "presidio": by_presidio}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--with", dest="method", choices=METHODS, default="tunewright")
    parser.add_argument("--errors", action="store_true")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in (SHARED / "presidio_pii" / "train.jsonl").open(encoding="utf-8")]
    find = METHODS[arguments.method]()
    right, wrong, hit, missed = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    errors = []
    started = time.perf_counter()
    predicted = [find(row["text"]) for row in rows]
    seconds = time.perf_counter() - started
    for row, spans in zip(rows, predicted, strict=True):
        true = truth(row)
        text = row["text"]
        for start, end, kind in spans:
            agrees = any(k == kind and s < end and start < e for s, e, k in true)
            (right if agrees else wrong)[kind] += 1
            if not agrees:
                errors.append(f"wrong {kind}: {text[start:end]!r} in {text[max(0, start - 30) : end + 20]!r}")
        for start, end, kind in true:
            covered = any(k == kind and s <= start and end <= e for s, e, k in spans)
            (hit if covered else missed)[kind] += 1
            if not covered:
                errors.append(f"missed {kind}: {text[start:end]!r} in {text[max(0, start - 30) : end + 20]!r}")
    print("| kind | true | precision | recall |")
    print("|---|---|---|---|")
    for kind in sorted(set(TRUE_KINDS.values()) | set(right) | set(wrong)):
        found, true_count = right[kind] + wrong[kind], hit[kind] + missed[kind]
        precision = f"{right[kind] / found:.3f} of {found}" if found else "-"
        recall = f"{hit[kind] / true_count:.3f}" if true_count else "-"
        print(f"| {kind} | {true_count} | {precision} | {recall} |")
    print(f"\n{len(rows)} texts in {seconds:.2f} s\n")
    print("| texts without personal data | texts | spans found |")
    print("|---|---|---|")
    for name in ("banking77", "clinc150_oos"):
        texts = [json.loads(line)["text"] for line in (SHARED / name / "train.jsonl").open(encoding="utf-8")]
        print(f"| {name} | {len(texts)} | {sum(len(find(text)) for text in texts)} |")
    if arguments.errors:
        print("\n".join(errors))


if __name__ == "__main__":
    main()
