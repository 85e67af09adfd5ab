"""Precision and recall of `find_pii` by kind, false alarms on texts without personal data, and texts a second.

    python bench/pii.py                  # the data sets: bench/data_sets.py
    python bench/pii.py --part develop   # the half that the patterns may be written with
    python bench/pii.py --errors         # and what was missed or found wrongly (synthetic values); never for held-out
    python bench/pii.py --with presidio  # presidio-analyzer's recognisers that need no model, where installed
    python bench/pii.py --names mimesis  # every person under a new name, from the generator mimesis where installed

The sentences are the training part of presidio-research's, made from templates. Sentences of one template, or of
templates that differ in a fifth of their letters at most, are one family; half of the families (seed 0) are for
development, the other half is held out. A found span is right when it overlaps a true span of its kind; recall counts
true spans that one span covers whole, recall in part those that one of their kind touches. Street addresses and postal
codes are one kind, ADDRESS. Organisations, titles, ages, nationalities, cities, countries, web domains and driving
licences are neither looked for nor counted; a date counts where the text speaks of a birth. The lists of names come
from Faker, the names in the sentences from fakenamegenerator.com. Real addresses are usaddress's, in a sentence of our
own.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from data_sets import DATA as SHARED

TRUE_KINDS = {
    "CREDIT_CARD": "CARD",
    "DATE_TIME": "BIRTH_DATE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "PERSON": "PERSON",
    "PHONE_NUMBER": "PHONE",
    "STREET_ADDRESS": "ADDRESS",
    "US_SSN": "SSN",
    "ZIP_CODE": "ADDRESS",
}
Row = dict[str, Any]
Spans = list[tuple[int, int, str]]
Find = Callable[[str], Spans]


def rows_of(name: str, part: str = "train") -> list[Row]:
    return [json.loads(line) for line in (SHARED / name / f"{part}.jsonl").open(encoding="utf-8")]


def truth(row: Row) -> Spans:
    spans = [(s["start"], s["end"], TRUE_KINDS[s["type"]]) for s in row["spans"] if s["type"] in TRUE_KINDS]
    return [span for span in spans if span[2] != "BIRTH_DATE" or "birth" in row["text"].casefold()]


def masked(row: Row) -> str:
    """The template as it can be seen: the sentence with a mark for every run of spans."""
    parts, end = [], 0
    for span in sorted(row["spans"], key=lambda span: span["start"]):
        parts.append(row["text"][end : span["start"]])
        end = span["end"]
    text = " _ ".join([*parts, row["text"][end:]])
    return re.sub(r"(_\W*)+", "_ ", " ".join(text.casefold().split()))


def families(rows: list[Row]) -> list[int]:
    """A number for each row, the same for rows of one template and of templates that are nearly the same."""
    firsts: list[tuple[int, str]] = []
    family_of: dict[str, int] = {}
    for row in rows:
        mask = masked(row)
        if mask not in family_of:
            alike = (n for n, first in enumerate(firsts) if first[0] == row["template_id"] or _alike(first[1], mask))
            family_of[mask] = next(alike, len(firsts))
            if family_of[mask] == len(firsts):
                firsts.append((row["template_id"], mask))
    return [family_of[masked(row)] for row in rows]


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= 0.8


def parts(rows: list[Row]) -> dict[str, list[Row]]:
    numbers = families(rows)
    count = max(numbers) + 1
    ours = set(random.Random(0).sample(range(count), count)[::2])
    pairs = list(zip(rows, numbers, strict=True))
    return {
        "develop": [row for row, number in pairs if number in ours],
        "held-out": [row for row, number in pairs if number not in ours],
        "all": rows,
    }


def renamed(rows: list[Row]) -> Iterator[Row]:
    """The rows with a new name of mimesis, of one of 13 locales, for every person; first names stay alone."""
    from mimesis import Person
    from mimesis.locales import Locale

    codes = ("EN", "DE", "FR", "ES", "PL", "SV", "IT", "NL", "CS", "TR", "PT", "DA", "FI")
    people = [Person(Locale[code], seed=number) for number, code in enumerate(codes)]
    for number, row in enumerate(rows):
        person, text, spans, shift = people[number % len(people)], row["text"], [], 0
        for span in sorted(row["spans"], key=lambda span: span["start"]):
            start, end = span["start"] + shift, span["end"] + shift
            if span["type"] == "PERSON":
                name = person.full_name() if " " in span["value"] else person.first_name()
                text = text[:start] + name + text[end:]
                shift += len(name) - (end - start)
                end = start + len(name)
            spans.append(span | {"start": start, "end": end})
        yield row | {"text": text, "spans": spans}


def by_tunewright() -> Find:
    from tunewright.pii import find_pii

    find_pii("Anna Smith")  # so that no measured text waits for the lists of names
    return lambda text: [(span.start, span.end, span.kind) for span in find_pii(text)]


def by_presidio() -> Find:
    from presidio_analyzer import predefined_recognizers

    kinds = ("CreditCard", "Email", "Iban", "Ip", "Phone", "UsSsn")
    recognisers = [getattr(predefined_recognizers, f"{kind}Recognizer")() for kind in kinds]

    def find(text: str) -> Spans:
        found = [r for one in recognisers for r in one.analyze(text, one.supported_entities, None) if r.score >= 0.4]
        return [(r.start, r.end, TRUE_KINDS[r.entity_type]) for r in found]

    return find


METHODS = {"tunewright": by_tunewright, "presidio": by_presidio}


def table(rows: list[Row], find: Find, errors: bool) -> None:
    right, wrong, whole, touched, true_count = (Counter[str]() for _ in range(5))
    remarks = []
    for row in rows:
        text, true, found = row["text"], truth(row), find(row["text"])
        for start, end, kind in found:
            agrees = any(k == kind and s < end and start < e for s, e, k in true)
            (right if agrees else wrong)[kind] += 1
            if not agrees:
                remarks.append(f"wrong {kind}: {text[start:end]!r} in {text[max(0, start - 30) : end + 20]!r}")
        for start, end, kind in true:
            true_count[kind] += 1
            covered = any(k == kind and s <= start and end <= e for s, e, k in found)
            whole[kind] += covered
            touched[kind] += any(k == kind and s < end and start < e for s, e, k in found)
            if not covered:
                remarks.append(f"missed {kind}: {text[start:end]!r} in {text[max(0, start - 30) : end + 20]!r}")
    print(
        "| kind | true | found | right | precision | recall | F1 | recall in part |\n|---|---|---|---|---|---|---|---|"
    )
    for kind in sorted(set(TRUE_KINDS.values()) | set(right) | set(wrong)):
        found_count = right[kind] + wrong[kind]
        precision = _share(right[kind], found_count)
        recall, in_part = _share(whole[kind], true_count[kind]), _share(touched[kind], true_count[kind])
        f1 = 2 * precision * recall / (precision + recall) if precision and recall else None
        figures = " | ".join("-" if share is None else f"{share:.3f}" for share in (precision, recall, f1, in_part))
        print(f"| {kind} | {true_count[kind]} | {found_count} | {right[kind]} | {figures} |")
    print()
    if errors:
        print("\n".join(remarks), end="\n\n")


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def false_alarms(find: Find) -> None:
    """On texts that have no personal data. Demo tickets may end in a line with the writer's first name."""
    print("| texts | number | spans found | for 1,000 texts |\n|---|---|---|---|")
    for name, part in (("banking77", "train"), ("banking77", "test"), ("clinc150_oos", "test")):
        texts = [row["text"] for row in rows_of(name, part)]
        spans = sum(len(find(text)) for text in texts)
        print(f"| {name} {part} | {len(texts)} | {spans} | {1000 * spans / len(texts):.2f} |")
    signed = seen = spans = 0
    tickets = [row["text"] for part in ("test", "test_unseen_phrasing") for row in rows_of("demo_tickets", part)]
    for text in tickets:
        signature = re.search(r"\n(?:.*[, ])?([A-Z][a-z]+)\Z", text)
        found = find(text)
        signed += bool(signature)
        ours = [span for span in found if signature and span[:2] == signature.span(1)]
        seen += bool(ours)
        spans += len(found) - len(ours)
    print(f"| demo_tickets, both tests | {len(tickets)} | {spans} | {1000 * spans / len(tickets):.2f} |")
    print(f"\n{seen} of {signed} names under demo tickets were found.\n")


def real_addresses(find: Find) -> None:
    """usaddress's test strings with a house number and a street: whether one span covers both."""
    found = count = 0
    for row in rows_of("pkg_usaddress", "test"):
        if not row["entities"].keys() >= {"AddressNumber", "StreetName"}:
            continue
        values = (row["entities"][key] for key in ("AddressNumber", "StreetName"))
        number, street = (value[0] if isinstance(value, list) else value for value in values)
        text = f"My parcel for {row['text']} is late."
        start = text.find(number, len("My parcel for "))
        end = text.find(street, start) + len(street)
        count += 1
        found += any(k == "ADDRESS" and s <= start and end <= e for s, e, k in find(text))
    print(f"usaddress test: {found} of {count} with house number and street found ({found / count:.3f}).\n")


def speed(find: Find) -> None:
    texts = [row["text"] for row in rows_of("banking77")]
    long = [match[0] for match in re.finditer(r"(?s).{600}", " ".join(texts))]
    for name, some in (("BANKING77", texts), ("600 bytes of BANKING77", long)):
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            for text in some:
                find(text)
            seconds.append(time.perf_counter() - started)
        print(f"{name}: {len(some) / min(seconds):,.0f} texts/s (best of 5)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--with", dest="method", choices=METHODS, default="tunewright")
    parser.add_argument("--part", choices=("develop", "held-out", "all"))
    parser.add_argument("--names", choices=("mimesis",))
    parser.add_argument("--errors", action="store_true")
    arguments = parser.parse_args()
    if arguments.errors and arguments.part != "develop":
        parser.error("--errors goes with --part develop: a part whose errors were looked at is not held out any more")
    find = METHODS[arguments.method]()
    by_part = parts(rows_of("presidio_pii"))
    for part in [arguments.part] if arguments.part else ["held-out", "all"]:
        rows = list(renamed(by_part[part])) if arguments.names else by_part[part]
        print(f"{part}: {len(rows)} sentences of {len(set(families(by_part[part])))} families\n")
        table(rows, find, arguments.errors)
    if not arguments.part:
        false_alarms(find)
        real_addresses(find)
        speed(find)


if __name__ == "__main__":
    main()
