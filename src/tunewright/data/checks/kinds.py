"""The kinds of findings: a code that never changes its meaning, why it hurts, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunewright.data.checks.survey import FIRST, Split, excerpt
from tunewright.tasks import Example

SEVERITIES = ("error", "warning", "note")
"""In order. An error: the data can't be used as it is. A warning: it makes a worse model or a false figure. A note:
worth knowing."""

DIMENSIONS = {
    "readable": "Every row can be read, and says what it was meant to say.",
    "labels": "Every label is one the job knows, and has enough examples.",
    "agreement": "The same text has the same label everywhere, and the right one.",
    "unique": "No row counts twice.",
    "separate": "Nothing of the test is in train.",
    "private": "No personal data, no secrets.",
    "served": "What is learnt is what will be served: prompt, length, language.",
    "enough": "The test is large enough to tell a good model from a bad one.",
}
"""What a data set is scored by, from 0 to 100."""


@dataclass(frozen=True)
class FindingKind:
    title: str
    dimension: str
    why: str
    fix: str
    """What to do, as a sentence."""
    mends: str = ""
    """What `tunewright data fix --only CODE` does about it; empty where only a person can tell."""


KINDS = {
    "D001": FindingKind(
        "no text", "readable", "There is nothing to answer.", "Delete or fill these rows.", "deletes these rows"
    ),
    "D002": FindingKind(
        "unknown label",
        "labels",
        "A classifier can only answer what the spec lists.",
        "Add them under task.labels, or correct the rows.",
    ),
    "D003": FindingKind(
        "one label only",
        "labels",
        "There is nothing to tell apart.",
        "A classifier needs examples of at least two labels.",
    ),
    "D004": FindingKind(
        "label without examples", "labels", "The model can't learn it.", "Add examples, or remove the labels."
    ),
    "D005": FindingKind(
        "starved label",
        "labels",
        "With so few examples a label is learnt badly, and its accuracy can't be measured.",
        "Expect low accuracy on these labels; collect more.",
    ),
    "D006": FindingKind(
        "same text, different labels",
        "agreement",
        "One of them teaches a mistake, and no model can be right on both.",
        "Decide which label is right.",
        "keeps each text's most frequent label, and deletes the text where there is none",
    ),
    "D007": FindingKind(
        "repeated row",
        "unique",
        "It counts twice, in training and in every figure.",
        "Keep one of each.",
        "keeps the first of each",
    ),
    "D008": FindingKind(
        "test text in train",
        "separate",
        "What is measured on it is memory, and flatters every figure.",
        "Remove them from train.",
        "deletes them from train",
    ),
    "D009": FindingKind(
        "unreadable row",
        "readable",
        "It is lost to training.",
        "They stand in quarantine/ of this check's output. Mend them, or allow some by data.max_unreadable.",
    ),
    "D010": FindingKind(
        "read with a remark", "readable", "The file may not say what you mean.", "The rows are used as they are."
    ),
    "D011": FindingKind(
        "near repeat",
        "unique",
        "It counts nearly twice, and a random split would put the two on both sides.",
        "Keep one of each. The split keeps near copies together.",
        "keeps the first of each",
    ),
    "D012": FindingKind(
        "near copy of a test text in train",
        "separate",
        "What is measured on it is half memory.",
        "Name a test of new groups beside it, or delete these from train.",
        "deletes from train what is near a test text or shares its group",
    ),
    "D013": FindingKind(
        "spellings of one label",
        "labels",
        "One label is learnt as two, and each is measured wrong.",
        "Choose one spelling of each.",
        "writes the spec's spelling, or the most frequent one",
    ),
    "D014": FindingKind(
        "probably wrong label",
        "agreement",
        "A few per cent of wrong labels cap what any model can reach.",
        "Look at them, the most probable first (suspects.jsonl); a hard row is suspected too.",
    ),
    "D015": FindingKind(
        "personal data or secret",
        "private",
        "A model may repeat what it was trained on, to anyone.",
        "Put stand-ins in their place before training.",
        "puts in stand-ins: the same for the same person everywhere, of the same form",
    ),
    "D016": FindingKind(
        "template tokens in a text",
        "readable",
        "Many trainers and servers take them for the end of a turn; here they are plain text, which the model "
        "learns to write.",
        "Remove them.",
        "removes them",
    ),
    "D017": FindingKind(
        "another prompt than the one served",
        "served",
        "A model answers best to the prompt it was trained with.",
        "The data's own system prompts are not used: make sure that the spec's instruction says the same.",
        "removes the data's system prompts",
    ),
    "D018": FindingKind(
        "dominating label",
        "labels",
        "Always answering it looks like a good model: accuracy hides the rest.",
        "Look at the figures of each label, not at accuracy alone; collect more of the others.",
    ),
    "D019": FindingKind(
        "answer beyond the token limit",
        "served",
        "A cut answer teaches cut answers, so training refuses the row.",
        "Raise train.max_length, or shorten these rows.",
        "deletes these rows",
    ),
    "D020": FindingKind(
        "prompt beyond the token limit",
        "served",
        "There is no room for any answer.",
        "Raise train.max_length, or shorten these inputs.",
        "deletes these rows",
    ),
    "D021": FindingKind(
        "another language",
        "served",
        "The model sees too little of it to learn it, and a test hides that.",
        "Collect more of each language you will serve, or route the others elsewhere.",
    ),
    "D022": FindingKind(
        "answers longer than needed",
        "served",
        "Every token of an answer costs time and money at each request.",
        "Shorten what the model is taught to write.",
    ),
    "D023": FindingKind(
        "small test",
        "enough",
        "The difference that you look for is smaller than the error of the measurement.",
        "Add test examples.",
    ),
    "D024": FindingKind(
        "damaged characters",
        "readable",
        "The model learns the damage: UTF-8 was read as another encoding.",
        "Export again as UTF-8.",
        "restores what can be restored",
    ),
    "D025": FindingKind(
        "not checked", "served", "What isn't checked may be wrong.", "Mend the cause, then check again with --force."
    ),
    "D026": FindingKind(
        "answer that does not fit the task",
        "labels",
        "It can be neither taught nor compared.",
        "Correct these rows, or the task in the spec.",
    ),
    "D027": FindingKind(
        "label named twice in a row",
        "labels",
        "A label holds or does not; what wrote it twice may have lost another.",
        "Each counts once. Look at what wrote these rows.",
    ),
    "D028": FindingKind(
        "rows without a label",
        "labels",
        "That none holds is an answer, and is taught as one.",
        "Delete the rows that nobody has labelled yet: they would teach that nothing holds.",
    ),
}


@dataclass(frozen=True)
class FindingPlace:
    """An example of what a finding concerns."""

    where: str
    """file:line"""
    text: str = ""
    """The beginning of what stands there, personal data masked."""


@dataclass(frozen=True)
class Finding:
    code: str
    severity: str
    what: str
    """What was found and how often, as a sentence without its full stop."""
    fix: str
    examples: Sequence[FindingPlace] = ()
    """The first it concerns."""
    count: int = 0
    """How many rows (or, of D004 and D005, labels) it concerns."""
    share: float = 0.0
    """The same as a share of all, from 0 to 1."""
    split: str = ""
    """The part of the data it concerns; empty for all."""

    @property
    def kind(self) -> FindingKind:
        return KINDS[self.code]


def scores(rows: int, findings: Sequence[Finding]) -> dict[str, int | None]:
    """For each of DIMENSIONS 100 less the per cent that its gravest finding concerns, rounded down.

    Args:
        rows: readable training rows; without any, nothing but "readable" is measured.
    """
    worst = dict.fromkeys(DIMENSIONS, 0.0)
    for finding in findings:
        worst[finding.kind.dimension] = max(worst[finding.kind.dimension], min(finding.share, 1.0))
    return {name: int(100 * (1 - share)) if rows or name == "readable" else None for name, share in worst.items()}


def sentence(rows: Mapping[str, int], findings: Sequence[Finding]) -> str:
    """The state of the data in a sentence.

    Args:
        rows: readable rows of each split.
    """
    total = sum(rows.values())
    errors, warnings = (sum(finding.severity == severity for finding in findings) for severity in SEVERITIES[:2])
    if errors:
        return f"{total:,} rows, which can't be trained on yet: {errors} of the findings stop{'s' * (errors == 1)} it."
    if warnings:
        plural = "s" * (warnings > 1)
        return f"{total:,} rows that can be trained on, with {warnings} warning{plural} to look at first."
    return f"{total:,} rows, and nothing in them that would hurt."


def places(split: Split, rows: Iterable[int]) -> tuple[FindingPlace, ...]:
    """Where the first of some rows stand, and how they begin."""
    examples = (split.example(row) for row, _ in zip(rows, range(FIRST), strict=False))
    return tuple(FindingPlace(place_of(example), excerpt(example)) for example in examples)


def pair_places(split: Split, rows: Iterable[int], other: Split, others: Iterable[int]) -> tuple[FindingPlace, ...]:
    """The same of rows that resemble others, with what they resemble."""
    shown = []
    for row, like, _ in zip(rows, others, range(FIRST), strict=False):
        example, original = split.example(row), other.example(like)
        text = f"{excerpt(example)} · like {place_of(original)} {excerpt(original)}"
        shown.append(FindingPlace(place_of(example), text))
    return tuple(shown)


def place_of(example: Example) -> str:
    return example.meta.source or example.meta.id
