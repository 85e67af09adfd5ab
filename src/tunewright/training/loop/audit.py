"""What an adapter will learn, shown on one example before the first step."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.models.tokenizer import TextTokenizer
from tunewright.training.loop.encode import IGNORED, Row

_CONTEXT = 24
"""Tokens shown before the first that is learnt."""


def shown(rows: Sequence[Row], tokenizer: TextTokenizer) -> list[str]:
    """One example, the tokens that are learnt from in ⟦ ⟧, and how many they are in all."""
    row = rows[0]
    ids, labels = row["input_ids"], row["labels"]
    first = next(place for place, label in enumerate(labels) if label != IGNORED)
    start = max(0, first - _CONTEXT)
    pieces = ["…"] if start else []
    run: list[int] = []
    for place in range(start, len(ids) + 1):
        ends = place == len(ids) or (run and (labels[place] == IGNORED) != (labels[place - 1] == IGNORED))
        if ends:
            text = tokenizer.decode(run)
            pieces.append(text if labels[place - 1] == IGNORED else f"⟦{text}⟧")
            run = []
        if place < len(ids):
            run.append(ids[place])
    learnt = sum(label != IGNORED for each in rows for label in each["labels"])
    total = sum(len(each["input_ids"]) for each in rows)
    among = ", each among the tokens that the labels allow there" if "choices" in row else ""
    return [
        f"{len(rows)} examples, {total:,} tokens, {learnt:,} of them learnt{among}; the first one:",
        "".join(pieces).replace("\n", "↵"),
    ]
