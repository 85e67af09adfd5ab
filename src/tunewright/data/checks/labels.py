"""Findings on the labels: their number of rows and their spellings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tunewright.data.checks.kinds import KINDS, Finding, places
from tunewright.data.checks.scan import FIRST, hash_of
from tunewright.data.checks.survey import Split, Survey, bare
from tunewright.data.shown import label_shown, shown
from tunewright.tasks.base import SomeOf, labels_of

STARVED = 20
"""Rows below which a label is starved."""


def balance(survey: Survey) -> Iterator[Finding]:
    """D003, D004, D005 and D018: labels without rows, labels with few rows, and one label with most of the rows."""
    labels, counts = survey.labels, survey.train.answers
    several = survey.job.task is not None and isinstance(survey.job.task.constraint, SomeOf)
    present = [label for label in labels if counts[label]]
    if not labels:
        return
    if len(present) < 2:
        what = (
            f"train: {'no row has another label than' if several else 'all rows have the label'} '{shown(present[0])}'"
            if present
            else "train: no row has a label of the spec"
        )
        yield Finding("D003", "error", what, KINDS["D003"].fix, count=len(survey.train.table), share=1, split="train")
        return
    absent = [label for label in labels if not counts[label]]
    if absent:
        what = f"train: no example of {', '.join(map(shown, absent[:8]))}"
        share = len(absent) / len(labels)
        yield Finding("D004", "warning", what, KINDS["D004"].fix, (), len(absent), share, "train")
    thin = [label for label in present if counts[label] < STARVED]
    if thin:
        what = f"train: fewer than {STARVED} examples of {', '.join(map(shown, thin[:8]))}"
        what += f" and {len(thin) - 8} more" if len(thin) > 8 else ""
        share = len(thin) / len(labels)
        yield Finding("D005", "warning", what, KINDS["D005"].fix, (), len(thin), share, "train")
    if several:
        return  # a row with this label can have others too
    largest = max(present, key=lambda label: counts[label])
    share = counts[largest] / sum(counts[label] for label in present)
    if share > 0.5 + 0.5 / len(present):
        what = f"train: {100 * share:.0f} % of the rows have the label '{shown(largest)}'"
        yield Finding("D018", "warning", what, KINDS["D018"].fix, (), counts[largest], share, "train")


def spellings(survey: Survey) -> Iterator[Finding]:
    """D013: labels that `bare` makes equal."""
    present = {name for split in survey.splits.values() for name in split.answers}
    alike = {name: best for name, best in preferred_spellings(survey).items() if name != best and name in present}
    if not alike:
        return
    together: dict[str, list[str]] = defaultdict(list)
    for name, best in alike.items():
        together[best].append(name)
    listing = "; ".join(", ".join(map(label_shown, [best, *names])) for best, names in list(together.items())[:FIRST])
    count = sum(split.answers[name] for split in survey.splits.values() for name in alike)
    rows = sum(len(split.table) for split in survey.splits.values())
    first = [place for split in survey.splits.values() for place in places(split, _rows_of(split, alike))]
    what = f"labels that may be one: {listing}"
    yield Finding("D013", "warning", what, KINDS["D013"].fix, tuple(first[:FIRST]), count, count / rows)


def preferred_spellings(survey: Survey) -> dict[str, str]:
    """The spelling to keep for each label with several spellings: the spec's, or else the most frequent one."""
    if not survey.labels:
        return {}
    counts = sum((split.answers for split in survey.splits.values()), Counter())
    allowed = set(labels_of(survey.job.task.constraint)) if survey.job.task else set()
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts.keys() | allowed):
        spelled[bare(name)].append(name)
    best: dict[str, str] = {}
    for names in spelled.values():
        if len(names) > 1 and sum(name in allowed for name in names) < 2:
            kept = max(names, key=lambda name: (name in allowed, counts[name], name))
            best |= dict.fromkeys(names, kept)
    return best


def _rows_of(split: Split, names: dict[str, str]) -> list[int]:
    hashes = {hash_of(name) for name in names}
    return [row for row, answer in enumerate(split.table.answer.tolist()) if answer in hashes][:FIRST]
