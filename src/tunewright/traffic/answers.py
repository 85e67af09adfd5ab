"""What the answers of a job look like: labels, records, texts, tool calls or vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs.outcomes import label_in, record_in

AnswerKind = Literal["labels", "record", "short text", "long text", "tool calls", "vectors", "unknown"]

_LABEL_WORDS = 8
"""Words that a label may have."""
_LABELS = 300
"""Labels that a job may have."""
_MOSTLY = 0.9
"""The share of answers that must have a form."""
_REPEATED = 0.8
"""The share of answers that must occur more than once, if they are labels."""
_LONG = 50
"""Words from which a text is long: no evidence supports a small model there (`tunewright.economics.fit`)."""


@dataclass(frozen=True)
class AnswerShape:
    """What the answers of a job look like."""

    kind: AnswerKind
    names: list[str] = field(default_factory=list)
    """The labels, the keys of a record, or the tools; the most frequent first."""
    words: float = 0.0
    """Words of an answer, the median."""
    key: str | None = None
    """Of labels: the only key of the record that holds the label; None: the answer is the label itself."""


def answer_shape(kind: str, choices: Sequence[AnswerChoice]) -> AnswerShape:
    """The form of some answers.

    Args:
        kind: of the route, as `tunewright.gateway.routes.Kind`.
    """
    if kind == "embeddings":
        return AnswerShape("vectors")
    if not choices:
        return AnswerShape("unknown")
    texts = [choice.text.strip() for choice in choices]
    words = sorted(len(text.split()) for text in texts)[len(texts) // 2]
    called = [call["name"] for choice in choices for call in choice.tool_calls]
    if sum(bool(choice.tool_calls) for choice in choices) > len(choices) / 2:
        return AnswerShape("tool calls", _frequent(called), words)
    records = [record for text in texts if (record := record_in(text)) is not None]
    if len(records) >= _MOSTLY * len(texts):
        names = _frequent([key for record in records for key in record])
        # Only texts can be labels: a project whose answers are true or 3 fills records.
        if len(names) == 1 and (labels := _labels([label_in(text, names[0]) or "" for text in texts])):
            return AnswerShape("labels", labels, words, names[0])
        return AnswerShape("record", names, words)
    if labels := _labels(texts):
        return AnswerShape("labels", labels, words)
    return AnswerShape("long text" if words >= _LONG else "short text", words=words)


def _labels(texts: Sequence[str]) -> list[str]:
    """The labels that some texts consist of, the most frequent first; empty: they are no labels."""
    short = [text for text in texts if text and len(text.split()) <= _LABEL_WORDS]
    counts = Counter(short)
    repeated = [text for text, count in counts.items() if count > 1]
    in_set = sum(counts[text] for text in repeated)
    if len(short) >= _MOSTLY * len(texts) and 2 <= len(repeated) <= _LABELS and in_set >= _REPEATED * len(texts):
        return sorted(repeated, key=lambda text: -counts[text])
    return []


def _frequent(names: Sequence[str]) -> list[str]:
    return [name for name, _ in Counter(names).most_common(_LABELS)]
