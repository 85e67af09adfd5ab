"""A finding on text that nearly all requests share: an instruction inside users' messages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunewright.data.boilerplate import SAMPLE, find_template, sample_of
from tunewright.data.checks.kinds import KINDS, Finding, places
from tunewright.data.checks.survey import Survey
from tunewright.data.shown import shown

LEAST_ROWS = 20
"""With fewer, what they share may be chance."""


def fixed_text(survey: Survey) -> Iterator[Finding]:
    """D033: rows of train with the same text around the input. It is found in some rows and counted in all."""
    train = survey.train
    rows = len(train.table)
    if rows < LEAST_ROWS:
        return
    drawn = np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(int)
    template = find_template(sample_of(train.example(int(row)).request for row in drawn))
    if template is None:
        return
    count = letters = 0
    first: list[int] = []
    for row, example in enumerate(train.examples()):
        request = example.request
        letters += len(request)
        if template.input_of(request) != request:
            count += 1
            first += [row] if len(first) < 5 else []
    share = count * (len(template.before) + len(template.after)) / max(1, letters)
    ends = [f"begins with '{shown(template.before)}'"] if template.before else []
    ends += [f"ends with '…{shown(template.after[-60:].strip())}'"] if template.after else []
    what = (
        f"train: {count:,} rows have the same text around the input, {100 * share:.0f} % of all letters: it "
        f"{' and '.join(ends)}"
    )
    yield Finding("D033", "note", what, KINDS["D033"].fix, places(train, first), count, split="train")
