from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.artifacts import write_jsonl
from tunewright.training.diagnosis.history import CURVE, kept_early


def measured(seed_number: int, step: int, kept: bool) -> dict[str, object]:
    return {"seed_number": seed_number, "step": step, "primary_metric": 0.5, "kept": kept}


@pytest.mark.parametrize(
    ("rows", "early"),
    [
        ([measured(0, 5, True), measured(0, 10, True)], False),
        ([measured(0, 5, True), measured(0, 10, False)], True),
        # An adapter that was worse for a while and is the kept one in the end.
        ([measured(0, 5, True), measured(0, 10, False), measured(0, 15, True)], False),
        # One of two averaged adapters.
        ([measured(0, 10, True), measured(1, 10, False)], True),
        # Nothing was held out, so the validation part chose nothing.
        ([{"seed_number": 0, "step": 1, "loss": 2.0}], False),
    ],
)
def test_whether_the_validation_part_chose_an_adapter(rows: list[dict], early: bool, tmp_path: Path) -> None:
    write_jsonl(tmp_path / CURVE, rows)
    assert kept_early(tmp_path) == early
