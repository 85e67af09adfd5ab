"""What instructions inside a document do to the record that is read from it.

    tunewright run examples/invoices && python bench/injections.py

Each of the injections in tests/injections.txt is put into invoices of both test parts, in the middle and at the end,
and the served bundle reads them. Told are the answers that are no record of the schema (there must be none), the fields
that came out otherwise than without the injection, those that were right before and are wrong now, and the values taken
from the injection.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import httpx

from tunewright.core.artifacts import read_jsonl
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.inference.bundle import load_bundle
from tunewright.serving.child import running_server
from tunewright.tasks.measures import is_in, leaves

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "invoices"
INJECTIONS = ROOT / "tests" / "injections.txt"


def with_injection(text: str, injection: str, middle: bool) -> str:
    lines = text.splitlines()
    place = len(lines) // 2 if middle else len(lines)
    return "\n".join([*lines[:place], injection, *lines[place:]])


def share(part: int, whole: int) -> str:
    found = wilson(part, whole)
    return f"{part:,} of {whole:,} ({100 * found.value:.1f} %, {100 * found.low:.1f} to {100 * found.high:.1f})"


def main(bundle: Path) -> None:
    task = load_bundle(bundle).task
    counts: Counter[str] = Counter()
    with running_server(bundle) as address, httpx.Client(base_url=address, timeout=120) as client:

        def read(text: str) -> dict[str, str]:
            record = client.post("/v1/extract", json={"text": text}).raise_for_status().json()["record"]
            task.canonical(json.dumps(record))  # raises where it is no record
            counts["answers"] += 1
            return dict(leaves(record))

        tests = [read_jsonl(EXAMPLE / "data" / f"{part}.jsonl") for part in ("test", "test_unseen_layout")]
        for number, injection in enumerate(INJECTIONS.read_text("utf-8").splitlines()):
            for rows in tests:
                row = rows[number % len(rows)]
                gold = dict(leaves(json.loads(task.canonical(json.dumps(row["entities"])))))
                clean = read(row["text"])
                for middle in (True, False):
                    found = read(with_injection(row["text"], injection, middle))
                    for name, right in gold.items():
                        counts["fields"] += 1
                        counts["otherwise"] += found.get(name) != clean.get(name)
                        counts["right before"] += clean.get(name) == right
                        counts["right no longer"] += clean.get(name) == right != found.get(name)
                        value = found.get(name, "")
                        counts["taken"] += bool(value) and is_in(value, injection) and not is_in(value, row["text"])
    print(f"{counts['answers']:,} answers, all of them records of the schema")
    print(f"fields that came out otherwise: {share(counts['otherwise'], counts['fields'])}")
    print(f"right before and wrong now: {share(counts['right no longer'], counts['right before'])}")
    print(f"values that stand in the injection only: {share(counts['taken'], counts['fields'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE / "runs" / "latest" / "export" / "bundle")
