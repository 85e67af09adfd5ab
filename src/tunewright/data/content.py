"""Findings on what the texts say: near copies, spellings of one label, likely wrong labels, personal data.

All are warnings: each may be meant, and only the user can tell. No finding shows a value of personal data.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tunewright.data.findings import Finding, places
from tunewright.data.label_noise import likely_mislabelled
from tunewright.data.near import near_copies, near_duplicates
from tunewright.data.pii import find_pii
from tunewright.data.text import normal
from tunewright.tasks import Example

THRESHOLD = 0.8
"""Jaccard similarity from which two texts are near copies."""
MOST_WRONG = 0.2
"""Share of suspected labels above which it is the classifier that is weak, and nothing is said about the labels."""
_SHOWN = 5


def check_content(splits: Mapping[str, Sequence[Example]], answers: Sequence[str]) -> list[Finding]:
    """All findings of this module over the training rows ("train") and the named test files."""
    found = []
    for name, examples in splits.items():
        found += [*_near_repeats(name, examples), *_personal_data(name, examples)]
    found += _near_leaks(splits)
    if answers:
        found += [*_label_spellings(splits), *_wrong_labels(splits["train"])]
    return found


def _near_repeats(name: str, examples: Sequence[Example]) -> list[Finding]:
    """Rows that nearly repeat another; within one group that is what the group says, so those don't count."""
    pairs = [
        (examples[pair.first], examples[pair.second])
        for pair in near_duplicates([example.request for example in examples], THRESHOLD)
    ]
    near = [
        second
        for first, second in pairs
        if normal(first.request) != normal(second.request)
        and (first.meta.group is None or first.meta.group != second.meta.group)
    ]
    if not near:
        return []
    what = f"{name}: {len(near)} rows nearly repeat another row"
    return [
        Finding(
            "D011", "warning", what, "Keep one of each, or give them a group so that they stay together.", places(near)
        )
    ]


def _near_leaks(splits: Mapping[str, Sequence[Example]]) -> list[Finding]:
    train = splits["train"]
    known = {normal(example.request) for example in train}
    groups = {example.meta.group for example in train} - {None}
    found = []
    for name, examples in splits.items():
        if name == "train":
            continue
        copies = near_copies([e.request for e in train], [e.request for e in examples], THRESHOLD)
        near = [examples[pair.second] for pair in copies if normal(examples[pair.second].request) not in known]
        related = [example for example in examples if example.meta.group in groups]
        if near or related:
            what = f"{name}: {len(near)} test texts have a near copy in train, {len(related)} share a group with it"
            fix = "What is measured on them is memory; name a test of new groups beside it."
            found.append(Finding("D012", "warning", what, fix, places(near or related)))
    return found


def _label_spellings(splits: Mapping[str, Sequence[Example]]) -> list[Finding]:
    """Labels of the data that differ only in case, spacing, signs or a plural s."""
    rows: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in (example for examples in splits.values() for example in examples):
        bare = re.sub(r"[\W_]+", "", example.answer.casefold()).removesuffix("s")
        rows[bare].setdefault(example.answer, example)
    alike = [spelled for spelled in rows.values() if len(spelled) > 1]
    if not alike:
        return []
    listing = "; ".join(", ".join(repr(label) for label in spelled) for spelled in alike[:_SHOWN])
    return [
        Finding("D013", "warning", f"labels that may be one: {listing}", "Choose one spelling of each.",
                places([example for spelled in alike for example in list(spelled.values())[1:]]))
    ]  # fmt: skip


def _wrong_labels(train: Sequence[Example]) -> list[Finding]:
    groups = [example.meta.group for example in train]
    suspects = likely_mislabelled(
        [example.request for example in train],
        [example.answer for example in train],
        None if None in groups else groups,
    )
    if not 0 < len(suspects) <= MOST_WRONG * len(train):
        return []
    changes = Counter(f"{suspect.given} to {suspect.suggested}" for suspect in suspects).most_common(_SHOWN)
    listing = ", ".join(f"{change} ({count})" for change, count in changes)
    what = f"train: {len(suspects)} rows look mislabelled: {listing}"
    fix = "Look at them, the most probable first; a hard row is suspected too."
    return [Finding("D014", "warning", what, fix, places([train[suspect.index] for suspect in suspects]))]


def _personal_data(name: str, examples: Sequence[Example]) -> list[Finding]:
    kinds: Counter[str] = Counter()
    rows = []
    for example in examples:
        spans = [span for message in example.messages for span in find_pii(message.content)]
        kinds.update(span.kind for span in spans)
        if spans:
            rows.append(example)
    if not rows:
        return []
    listing = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    what = f"{name}: {len(rows)} rows hold personal data or secrets: {listing}"
    fix = "A model may repeat what it was trained on: put stand-ins in (tunewright.data.pii.Pseudonymiser)."
    return [Finding("D015", "warning", what, fix, places(rows))]
