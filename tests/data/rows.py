"""Rows for the tests of the split: texts that repeat, nearly repeat or are unrelated, with groups and times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.conftest import LABELS, make_spec, unalike
from tunewright.config import Spec
from tunewright.core.artifacts import Output
from tunewright.data.dataset import save_examples
from tunewright.data.dedup.blocks import THRESHOLD
from tunewright.data.dedup.near import similarity
from tunewright.data.steps import FINDINGS, run_split
from tunewright.data.text import normal
from tunewright.tasks import Example, Meta

VARIANTS = ("{}", "{}x", "{}!", "a {}", "{}xy")
"""Near copies of each other."""


def row(
    number: int, text: str, label: str = "billing", group: str | None = None, time: int = 0, part: str = "train"
) -> Example:
    meta = Meta(id=f"{part}-{number}", source=f"{part}.jsonl:{number}", group=group, time=str(1_700_000_000 + time))
    return Example.of(text, label, meta)


def lists_of_rows(at_most: int = 40, texts: int = 25, first: int = 0) -> st.SearchStrategy[list[Example]]:
    """Rows, some of which repeat, nearly repeat or share a group; their numbers begin with `first`."""
    one = st.tuples(
        st.integers(0, texts - 1),
        st.sampled_from(VARIANTS),
        st.sampled_from(LABELS),
        st.sampled_from([None, None, None, "", "A", "B", "C", "D"]),
        st.integers(0, 9),
    )

    def rows(parts: list[tuple[int, str, str, str | None, int]]) -> list[Example]:
        return [
            row(first + number, variant.format(unalike(str(text))), label, group, time)
            for number, (text, variant, label, group, time) in enumerate(parts)
        ]

    # Lists of a drawn length, because Hypothesis by itself draws about five rows.
    return st.integers(0, at_most).flatmap(lambda size: st.lists(one, min_size=size, max_size=size)).map(rows)


def related(first: Example, second: Example) -> bool:
    """Whether two rows are related, by the definition and without any search."""
    same_group = bool(first.meta.group) and first.meta.group == second.meta.group
    same_text = normal(first.request) == normal(second.request)
    return same_group or same_text or similarity(first.request, second.request) >= THRESHOLD


def assert_apart(left: Sequence[Example], right: Sequence[Example]) -> None:
    for first in left:
        for second in right:
            assert not related(first, second), (first, second)


def ids(examples: Sequence[Example]) -> list[str]:
    return sorted(example.meta.id for example in examples)


def spec_of(folder: Path = Path("/nowhere"), **data: Any) -> Spec:
    return make_spec(folder, data={"train": "train.jsonl", **data})


def split_rows(folder: Path, spec: Spec, splits: Mapping[str, Sequence[Example]]) -> Output:
    """Run the step `split` into `folder`, on a check without findings."""
    check = folder / "check"
    for name, examples in splits.items():
        save_examples(check / "examples" / f"{name}.jsonl", examples)
    examined = {"rows": {}, "quarantined": 0, "scores": {}, "findings": []}
    (check / FINDINGS).write_text(json.dumps(examined))
    output = Output(folder / "split")
    output.path.mkdir()
    run_split(spec, {"check": check}, output)
    return output
