from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.drift.made import TASK, Asked, asked, reference
from tunewright.drift.reference import Reference, design_effects, load_reference

REFERENCE = reference()


def test_five_copies_of_a_row_are_worth_one() -> None:
    one = asked(200, 1)
    copies = Asked(one.texts * 5, one.answers * 5, one.confidences * 5).traits(REFERENCE.known)
    effects = design_effects(copies, [str(row % 200) for row in range(1000)])
    for name in ("answer", "topic", "confidence", "length", "novelty"):
        assert effects[name] == pytest.approx(5, rel=0.05), name


def test_rows_that_have_nothing_in_common_are_worth_themselves() -> None:
    many = asked(1000, 2).traits(REFERENCE.known)
    effects = design_effects(many, [str(row // 5) for row in range(1000)])
    assert effects.keys() == {*many.kinds, *many.numbers}
    assert all(1 <= effect < 1.5 for effect in effects.values())


@pytest.mark.parametrize("groups", [["one"] * 30, [str(row) for row in range(30)]])
def test_one_group_and_single_rows_have_no_effect(groups: list[str]) -> None:
    effects = design_effects(asked(30, 3).traits(REFERENCE.known), groups)
    assert all(effect == pytest.approx(1, abs=0.04) for effect in effects.values())


def test_numbers_that_no_row_has_have_none() -> None:
    traits = Asked(["a"] * 9, ["billing"] * 9, [None] * 9).traits(REFERENCE.known)
    assert np.isnan(traits.numbers["confidence"]).all()
    assert design_effects(traits, list("abcabcabc"))["confidence"] == 1


def test_a_reference_keeps_them_and_one_of_live_traffic_takes_them_over(tmp_path: Path) -> None:
    judged = asked(300, 4)
    made = Reference.of(
        judged.texts, judged.texts, judged.answers, judged.confidences, TASK, [str(row // 3) for row in range(300)]
    )
    made.save(tmp_path)
    loaded = load_reference(tmp_path)
    assert loaded is not None
    assert loaded.effects == made.effects
    assert made.effects["topic"] >= 1
    live = Reference.from_captures(judged.texts, judged.answers, judged.confidences, TASK, loaded.effects)
    assert live.effects == made.effects
