"""What the check found. A finding has a code that never changes its meaning, and says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.data.readers import Fault, Note
from tunewright.data.text import normal
from tunewright.tasks import Example

SEVERITIES = ("error", "warning")
_UNREMARKABLE = {"extra-keys"}
"""Notes that are no finding: other columns than those the spec names are usual, and left out."""


@dataclass(frozen=True)
class Finding:
    code: str
    severity: str
    what: str
    fix: str
    examples: Sequence[str] = ()
    """Where the first examples it concerns come from (file:line)."""


@dataclass(frozen=True)
class Reading:
    """What the readers gave for one split."""

    examples: list[Example]
    faults: list[Fault]
    notes: list[Note]


def check_readings(readings: Mapping[str, Reading], max_unreadable: float) -> list[Finding]:
    """Findings on what could not be read, and on what was read with a remark.

    Args:
        max_unreadable: share of a split's rows that may be in quarantine without that being an error.
    """
    found = []
    for name, reading in readings.items():
        count, rows = len(reading.faults), len(reading.faults) + len(reading.examples)
        if count:
            severity = "error" if count > max_unreadable * rows else "warning"
            kinds = Counter(fault.code for fault in reading.faults).most_common(5)
            listing = ", ".join(f"{kind} ({times})" for kind, times in kinds)
            what = f"{name}: {count} of {rows} rows can't be read: {listing}. The first: {reading.faults[0].reason}"
            first_places = tuple(fault.where for fault in reading.faults[:5])
            fix = "They stand in quarantine/ of this step's output. Mend them, or allow some by data.max_unreadable."
            found.append(Finding("D009", severity, what.rstrip("."), fix, first_places))
        remarks = [note for note in reading.notes if note.code not in _UNREMARKABLE]
        for code, times in Counter(note.code for note in remarks).items():
            first = next(note for note in remarks if note.code == code)
            what = f"{name}: {times} times {code}. The first: {first.reason.rstrip('.')}"
            found.append(Finding("D010", "warning", what, "The rows are used as they are.", (first.where,)))
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def check_splits(splits: Mapping[str, Sequence[Example]], answers: Sequence[str]) -> list[Finding]:
    """All findings over the training rows ("train") and the named test files.

    Args:
        answers: the answers the spec allows; empty where any text is allowed.
    """
    found = []
    for name, examples in splits.items():
        found += [*_empty_text(name, examples), *_repeats(name, examples)]
        if answers:
            found += _unknown_answers(name, examples, answers)
    if answers:
        found += _thin_answers(splits["train"], answers)
    found += _leaks(splits)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def places(examples: Sequence[Example]) -> tuple[str, ...]:
    """Where the first of some examples come from."""
    return tuple(example.meta.source or example.meta.id for example in examples[:5])


def _empty_text(name: str, examples: Sequence[Example]) -> list[Finding]:
    empty = [e for e in examples if not e.request.strip()]
    if not empty:
        return []
    return [
        Finding("D001", "error", f"{name}: {len(empty)} rows have no text", "Delete or fill these rows.", places(empty))
    ]


def _unknown_answers(name: str, examples: Sequence[Example], answers: Sequence[str]) -> list[Finding]:
    unknown = [e for e in examples if e.answer not in set(answers)]
    if not unknown:
        return []
    counts = Counter(e.answer for e in unknown).most_common(5)
    listing = ", ".join(f"'{label}' ({count})" for label, count in counts)
    fix = "Add them under task.labels, or correct the rows."
    return [
        Finding(
            "D002",
            "error",
            f"{name}: {len(unknown)} rows have a label the spec lacks: {listing}",
            fix,
            places(unknown),
        )
    ]


def _thin_answers(train: Sequence[Example], answers: Sequence[str]) -> list[Finding]:
    counts = Counter(e.answer for e in train)
    present = [answer for answer in answers if counts[answer]]
    if len(present) < 2:
        what = f"train: all rows have the label '{present[0]}'" if present else "train: no row has a label of the spec"
        return [Finding("D003", "error", what, "A classifier needs examples of at least two labels.")]
    found = []
    absent = [answer for answer in answers if not counts[answer]]
    if absent:
        what = f"train: no example of {', '.join(absent)}"
        found.append(Finding("D004", "warning", what, "The model can't learn them: add examples or remove the labels."))
    thin = [answer for answer in present if counts[answer] < 20]
    if thin:
        what = f"train: fewer than 20 examples of {', '.join(thin[:8])}"
        found.append(Finding("D005", "warning", what, "Expect low accuracy on these labels; collect more."))
    return found


def _repeats(name: str, examples: Sequence[Example]) -> list[Finding]:
    first: dict[str, Example] = {}
    same: list[Example] = []
    conflicting: list[Example] = []
    for example in examples:
        earlier = first.setdefault(normal(example.request), example)
        if earlier is not example:
            (same if earlier.answer == example.answer else conflicting).append(example)
    found = []
    if conflicting:
        what = f"{name}: {len(conflicting)} rows repeat a text with another label"
        found.append(Finding("D006", "warning", what, "Decide which label is right.", places(conflicting)))
    if same:
        what = f"{name}: {len(same)} rows repeat another row"
        found.append(
            Finding("D007", "warning", what, "Repeats count twice in training and in every figure.", places(same))
        )
    return found


def _leaks(splits: Mapping[str, Sequence[Example]]) -> list[Finding]:
    train = {normal(example.request) for example in splits["train"]}
    found = []
    for name, examples in splits.items():
        leaked = [e for e in examples if name != "train" and normal(e.request) in train]
        if leaked:
            what = f"{name}: {len(leaked)} test texts are also in train"
            found.append(
                Finding("D008", "warning", what, "Remove them from train: they flatter every figure.", places(leaked))
            )
    return found
