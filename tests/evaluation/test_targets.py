from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.evaluation.scenario import PER_SPLIT, candidate, verdict
from tunewright.evaluation.evidence import Record


def missed(served: list[Record], **changes: Any) -> list[str]:
    return [target.name for target in verdict(served, candidate(0.5), **changes).targets if not target.met]


def test_a_model_that_keeps_every_target_passes() -> None:
    assert missed(candidate(0.98)) == []


@pytest.mark.parametrize(
    ("served", "changes", "name"),
    [
        (candidate(0.8), {}, "accuracy on test"),
        (candidate(0.91), {"goal": {"accuracy": 0.9, "margin": 0.0}}, "accuracy on test"),
        (candidate(0.98, ms=2000), {}, "P95"),
        (candidate(0.98), {"parity_passed": False}, "parity"),
        (
            candidate(0.93),
            {"api_answers": candidate(1.0, splits=("test",)), "goal": {"accuracy": 0.8}},
            "no worse than gpt-4o on test",
        ),
    ],
)
def test_each_target_that_is_missed_is_named(served: list[Record], changes: dict[str, Any], name: str) -> None:
    assert missed(served, **changes) == [name]


def test_a_margin_of_nothing_is_no_fault() -> None:
    result = verdict(
        candidate(0.88), candidate(0.5), api_answers=candidate(0.9, splits=("test",)), goal={"margin": 0.0}
    )
    assert result.decision != "switch"


def in_groups(records: list[Record], groups: int) -> list[Record]:
    return [replace(record, group=str(number % PER_SPLIT % groups)) for number, record in enumerate(records)]


def test_too_few_groups_prove_no_goal() -> None:
    served, svm = in_groups(candidate(1.0), 8), in_groups(candidate(0.5), 8)
    goal = {"accuracy": 0.3, "margin": 0.29}
    result = verdict(served, svm, goal=goal)
    assert result.decision not in ("switch", "classical")
    assert "there are too few groups to tell (8, and it takes 20): collect test examples from more" in result.sentence
    assert [target.name for target in result.targets if not target.met] == ["accuracy on test"]
    assert any("accuracy proves nothing: too few groups" in reason for reason in result.reasons)
    assert not any("says little" in reason for reason in result.reasons), "one doubt is told once"
    assert verdict(in_groups(served, 50), in_groups(svm, 50), goal=goal).decision == "switch"


def test_too_few_groups_do_not_show_that_nothing_was_lost() -> None:
    goal = {"accuracy": 1.0, "margin": 0.4}
    both = {"goal": goal, "api_answers": in_groups(candidate(0.98, splits=("test",)), 8)}
    result = verdict(in_groups(candidate(0.98), 8), in_groups(candidate(0.1), 8), **both)
    assert result.decision != "switch"
    assert "no worse than gpt-4o on test" in [target.name for target in result.targets if not target.met]
    both["api_answers"] = in_groups(candidate(0.98, splits=("test",)), 50)
    assert verdict(in_groups(candidate(0.98), 50), in_groups(candidate(0.1), 50), **both).decision == "switch"


def test_macro_f1_of_rare_labels_says_little() -> None:
    rare = [
        replace(record, gold="refund") if number % PER_SPLIT == 0 else replace(record, gold="billing")
        for number, record in enumerate(candidate(0.98))
    ]
    reasons = verdict(rare, rare).reasons
    assert "On test, macro-F1 says little: 1 of 2 labels have fewer than 10 examples." in reasons
