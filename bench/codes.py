"""Whether labels that are one token each are learnt as well as labels in words.

    python bench/codes.py seed=0 train.epochs=1       # settings as in bench/quality.py

Each of BANKING77's labels is answered by one token: a word of its own where there is one that no other label has
taken ("cash withdrawal charge" becomes " charge"), else any other word of the vocabulary. One pass then decides, and
gives the probabilities of all labels. Scored on the official test, beside `python bench/quality.py final banking77`.
"""

from __future__ import annotations

import sys
from itertools import count

import quality

import tunewright as tw
from tunewright.artifacts import read_jsonl
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer


def codes(labels: list[str], tokenizer: TextTokenizer) -> dict[str, str]:
    """A word of one token for each label."""

    def is_one(word: str) -> bool:
        return len(tokenizer.encode_verbatim(f" {word}")) == 1

    spare = (word for number in count(2000) if is_one(word := tokenizer.decode([number]).strip()) and word.isalpha())
    taken: dict[str, str] = {}
    for label in labels:
        own = [word for word in reversed(label.split()) if is_one(word) and word not in taken.values()]
        taken[label] = own[0] if own else next(word for word in spare if word not in taken.values())
    return taken


def main(overrides: list[str]) -> None:
    folder = quality.project("banking77", final=True, twice=False)
    base = resolve(tw.load_spec(folder).model, folder)
    rows = {part: read_jsonl(folder / f"{part}.jsonl") for part in ("train", "test")}
    code = codes(sorted({row["label"] for row in rows["train"]}), TextTokenizer(base.folder))
    print({label: word for label, word in code.items() if word not in label.split()}, "have no word of their own")
    coded = folder.with_name("banking77-codes-final")
    quality.write_project(coded, "banking77", {
        part: [{"text": row["text"], "label": code[row["label"]]} for row in some] for part, some in rows.items()
    })  # fmt: skip
    quality.project = lambda *_, **__: coded
    quality.main("final", "banking77", overrides)


if __name__ == "__main__":
    main(sys.argv[1:])
