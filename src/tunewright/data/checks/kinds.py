"""The kinds of findings. Each has a code that never changes its meaning, the reason why it hurts, and a fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunewright.data.checks.scan import FIRST
from tunewright.data.checks.survey import Split, excerpt
from tunewright.tasks import Example

SEVERITIES = ("error", "warning", "note")
"""From the most severe. An error: the data can't be used as it is. A warning: it makes a worse model or a false figure.
A note: worth knowing."""

DIMENSIONS = {
    "readable": "Every row can be read, and its text is undamaged.",
    "labels": "Every label is one the job knows, and has enough examples.",
    "agreement": "The same text has the same label everywhere, and the right one.",
    "unique": "No row counts twice.",
    "separate": "No test row is in train.",
    "private": "No personal data, no secrets.",
    "served": "Training data matches what will be served: prompt, length, language.",
    "enough": "The test is large enough to tell a good model from a bad one.",
}
"""The dimensions in which a dataset gets a score, from 0 to 100."""


@dataclass(frozen=True)
class FindingKind:
    title: str
    dimension: str
    why: str
    fix: str
    """The advice, as a sentence."""
    automatic_fix: str = ""
    """The action of `tunewright data fix --only CODE`; empty where only a person can decide."""


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
        "The model remembers it, which flatters every figure.",
        "Remove them from train.",
        "deletes them from train",
    ),
    "D009": FindingKind(
        "unreadable row",
        "readable",
        "It is lost to training.",
        "They are in quarantine/ of this check's output. Correct them, or allow some by data.max_unreadable.",
    ),
    "D010": FindingKind(
        "read with a remark",
        "readable",
        "The file may not mean what you intended.",
        "The remark says what was done with the row.",
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
        "The model half remembers it, which flatters every figure.",
        "Add a test of new groups, or delete these from train.",
        "deletes from train the rows that are near a test text or share its group",
    ),
    "D013": FindingKind(
        "spellings of one label",
        "labels",
        "The model learns one label as two, and the figures of both are wrong.",
        "Choose one spelling of each.",
        "writes the spec's spelling, or the most frequent one",
    ),
    "D014": FindingKind(
        "probably wrong label",
        "agreement",
        "A few per cent of wrong labels limit the accuracy of any model.",
        "Look at them, the most probable first (suspects.jsonl); hard rows are among them too.",
    ),
    "D015": FindingKind(
        "personal data or secret",
        "private",
        "A model may repeat its training data to anyone.",
        "Replace them by stand-ins before training.",
        "replaces them by stand-ins of the same form, the same one for the same person everywhere",
    ),
    "D016": FindingKind(
        "template tokens in a text",
        "readable",
        "Many trainers and servers take them for the end of a turn. Here they are plain text, which the model "
        "learns to write.",
        "Remove them.",
        "removes them",
    ),
    "D017": FindingKind(
        "another prompt than the one served",
        "served",
        "A model answers best to the prompt it was trained with.",
        "The data's system prompts are not used. Make sure that the spec's instruction says the same.",
        "removes the data's system prompts",
    ),
    "D018": FindingKind(
        "dominating label",
        "labels",
        "A model that always gives this answer looks good, because accuracy hides the other labels.",
        "Look at the figures of each label, not at accuracy alone. Collect more examples of the others.",
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
        "There is no space for an answer.",
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
        "Shorten the answers in the training data.",
    ),
    "D023": FindingKind(
        "small test",
        "enough",
        "The difference you look for is smaller than the error of the measurement.",
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
        "A row has a label or not. The program that wrote it twice may have lost another label.",
        "Each counts once. Check the program that wrote these rows.",
    ),
    "D028": FindingKind(
        "rows without a label",
        "labels",
        '"No label" is an answer too, and the model learns it.',
        "Delete the rows that nobody has labelled yet: they would teach the model to give no label.",
    ),
    "D029": FindingKind(
        "earlier turns that are not taught",
        "served",
        "The model sees the last user message and the `task.earlier_turns` before it, in training and when it serves. "
        "An answer that depends on more can only be guessed.",
        "Set `task.earlier_turns` to the turns that an answer depends on, or delete these rows.",
    ),
    "D030": FindingKind(
        "tool call in the answer's place",
        "labels",
        "The answer has no text, and this task has no tool calls.",
        "Set `task.kind: tools`, with the tools that rows may call, or delete these rows.",
    ),
    "D031": FindingKind(
        "weighted row",
        "served",
        "It counts as more or as less than one row, in training and in every figure. Numbers of rows count it once.",
        "Nothing has to be done, if the weights are meant. Rename the column if it means something else.",
    ),
    "D032": FindingKind(
        "logged call that teaches nothing",
        "readable",
        "A failed call has no answer, and a cut or hidden text would teach what nobody wrote.",
        "They are left out, and listed in quarantine/ of this check's output. Nothing has to be done.",
    ),
    "D033": FindingKind(
        "the same text around every input",
        "served",
        "The model reads it again at each request, and rows that differ look alike to the checks for copies.",
        "Type tunewright prune YOUR_PROJECT: it measures whether the model needs that text. With --write it sets "
        "task.input_template, which takes it off.",
    ),
    "D034": FindingKind(
        "other tools than the spec's",
        "served",
        "The model chooses among the spec's tools. With other tools, the row's answer may have been another.",
        "Let `task.tools` be the tools that clients send, and leave out rows from before the tools changed.",
    ),
    "D035": FindingKind(
        "text beside a tool call",
        "labels",
        "An answer is a text or a call. A job of tool calls teaches the call, any other job the text.",
        "Nothing has to be done, if clients do not need the part that is left out.",
    ),
    "D036": FindingKind(
        "fields outside the schema",
        "labels",
        "The model is not taught these fields, and its records never have them.",
        "Add them to the schema if clients need them. Otherwise nothing has to be done.",
    ),
    "D037": FindingKind(
        "literal value that is not in the text",
        "labels",
        "A field with `x-literal` is confined to the text's own words, so no model can give this value.",
        "Correct the value, or remove x-literal from the field.",
    ),
}


@dataclass(frozen=True)
class FindingPlace:
    """An example row of a finding."""

    where: str
    """file:line"""
    text: str = ""
    """The beginning of the row's text, with personal data masked."""


@dataclass(frozen=True)
class Finding:
    code: str
    severity: str
    what: str
    """The finding with its number of rows, as a sentence without its full stop."""
    fix: str
    examples: Sequence[FindingPlace] = ()
    """The first rows concerned."""
    count: int = 0
    """Number of rows (for D004 and D005: labels) concerned."""
    share: float = 0.0
    """`count` as a share of all, from 0 to 1."""
    split: str = ""
    """The split concerned; empty for all."""

    @property
    def kind(self) -> FindingKind:
        return KINDS[self.code]


def scores(rows: int, findings: Sequence[Finding]) -> dict[str, int | None]:
    """For each of DIMENSIONS 100 less the per cent that its largest finding concerns, rounded down.

    Args:
        rows: readable training rows; without any, only "readable" has a score.
    """
    worst = dict.fromkeys(DIMENSIONS, 0.0)
    for finding in findings:
        worst[finding.kind.dimension] = max(worst[finding.kind.dimension], min(finding.share, 1.0))
    return {name: int(100 * (1 - share)) if rows or name == "readable" else None for name, share in worst.items()}


def sentence(rows: Mapping[str, int], findings: Sequence[Finding]) -> str:
    """The state of the data in one sentence.

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
    return f"{total:,} rows that can be trained on, without errors or warnings."


def places(split: Split, rows: Iterable[int]) -> tuple[FindingPlace, ...]:
    """The places and the beginnings of the first of some rows."""
    examples = (split.example(row) for row, _ in zip(rows, range(FIRST), strict=False))
    return tuple(FindingPlace(place_of(example), excerpt(example)) for example in examples)


def pair_places(split: Split, rows: Iterable[int], other: Split, others: Iterable[int]) -> tuple[FindingPlace, ...]:
    """The same for rows that resemble others, with the rows that they resemble."""
    pairs = []
    for row, like, _ in zip(rows, others, range(FIRST), strict=False):
        example, original = split.example(row), other.example(like)
        text = f"{excerpt(example)} · like {place_of(original)} {excerpt(original)}"
        pairs.append(FindingPlace(place_of(example), text))
    return tuple(pairs)


def place_of(example: Example) -> str:
    return example.meta.source or example.meta.id
