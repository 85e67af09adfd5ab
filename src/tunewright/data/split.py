"""Cutting a part off: stratified by answer, whole groups only, the same cut for the same seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from tunewright.data.folds import group_of
from tunewright.tasks import Example


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split into (kept, held out); about `share` of each answer's examples are held out, by whole groups.

    A group is `meta.group`, or where that is absent the text itself, so that repeats of a text never part. A group
    counts for its most frequent answer. Each answer keeps at least one group.
    """
    if share <= 0:
        return list(examples), []
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[group_of(example)].append(example)
    by_answer: dict[str, list[str]] = defaultdict(list)
    for group, members in groups.items():
        by_answer[Counter(member.answer for member in members).most_common(1)[0][0]].append(group)
    held: set[str] = set()
    shuffler = random.Random(seed)
    for answer in sorted(by_answer):
        names = sorted(by_answer[answer])
        shuffler.shuffle(names)
        wanted = share * sum(len(groups[name]) for name in names)
        taken = 0
        for name in names[:-1]:
            # Stop where one more group would overshoot by more than it now falls short.
            if taken + len(groups[name]) / 2 > wanted:
                break
            held.add(name)
            taken += len(groups[name])
    kept = [e for name, members in groups.items() if name not in held for e in members]
    return kept, [e for name, members in groups.items() if name in held for e in members]
