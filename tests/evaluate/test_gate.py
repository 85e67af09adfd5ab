from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.evaluate.scenario import arm, compared, evidence_of
from tunewright.evaluate.evidence import Record
from tunewright.evaluate.gate import targets
from tunewright.evaluate.report import verdict_data
from tunewright.evaluate.verdict import decide


def missed(served: list[Record], *, api_answers: list[Record] | None = None, failures: tuple[str, ...] = (),
           **spec: Any) -> list[str]:  # fmt: skip
    made, evidence = make_spec(**spec), evidence_of(served, arm(0.5))
    if api_answers:
        evidence["api"] = api_answers
    comparison = compared(made, evidence)
    verdict = decide(made, comparison, evidence, parity_passed=not failures)
    parity = {"passed": not failures, "failures": list(failures)}
    data = verdict_data(made, comparison, verdict, parity)
    return [each.name for each in targets(made, data | {"verdict": asdict(verdict)}) if not each.met]


def test_a_model_that_keeps_every_target_passes() -> None:
    assert missed(arm(0.98)) == []


@pytest.mark.parametrize(("served", "changes", "name"), [
    (arm(0.8), {}, "accuracy on test"),
    (arm(0.91), {"goal": {"accuracy": 0.9, "margin": 0.0}}, "accuracy on test"),
    (arm(0.98, ms=2000), {}, "P95"),
    (arm(0.98), {"failures": ("it disagrees",)}, "parity of the served bundle"),
    (arm(0.93), {"api_answers": arm(1.0, splits=("test",)), "goal": {"accuracy": 0.8}}, "no worse than gpt-4o on test"),
])  # fmt: skip
def test_each_target_that_is_missed_is_named(served: list[Record], changes: dict[str, Any], name: str) -> None:
    assert missed(served, **changes) == [name]
