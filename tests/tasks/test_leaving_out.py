"""Prompts without what a trained model knows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import LABELS, make_spec
from tunewright.config.sections import TaskSpec
from tunewright.tasks import task_of
from tunewright.tasks.registry import shorter_prompts

DESCRIBED = {"billing": "money", "refund": "money back"}
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number", "description": "with tax"}, "vendor": {"type": "string"}},
}
JOBS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "classify", "instruction": "Route it:\n{labels}", "labels": DESCRIBED},
    "extract": {"kind": "extract", "instruction": "Read it:\n{fields}", "schema": SCHEMA},
    "generate": {"kind": "generate", "instruction": "Answer it."},
}


def section(kind: str, **changes: Any) -> TaskSpec:
    return make_spec(task=JOBS[kind] | changes).task


def system(task: TaskSpec) -> str:
    return task_of(task).prompt("a request")[0].content


@pytest.mark.parametrize(
    ("kind", "prompts"),
    [
        (
            "classify",
            ["Route it:\n- billing: money\n- refund: money back", "Route it:\n- billing\n- refund", "Route it:", ""],
        ),
        ("extract", ["Read it:\n- total: with tax\n- vendor", "Read it:\n- total\n- vendor", "Read it:", ""]),
        ("generate", ["Answer it.", ""]),
    ],
)
def test_each_prompt_lacks_more_than_the_one_before(kind: str, prompts: list[str]) -> None:
    task = section(kind)
    assert [system(each) for each in (task, *shorter_prompts(task))] == prompts


def test_what_would_change_nothing_is_no_shorter_prompt() -> None:
    plain = section("classify", labels=LABELS)  # labels without descriptions
    assert [each.model_dump()["leave_out"] for each in shorter_prompts(plain)] == ["list", "instruction"]
    assert shorter_prompts(section("classify", leave_out="instruction")) == []


def test_a_model_that_was_not_trained_gets_the_whole_prompt() -> None:
    for kind in JOBS:
        bare = task_of(section(kind, leave_out="instruction"))
        assert bare.prompt("hello")[0].content == ""
        assert bare.untaught().prompt("hello") == task_of(section(kind)).prompt("hello")


def test_labels_of_one_token_keep_their_tokens_without_descriptions() -> None:
    task = task_of(section("classify", leave_out="descriptions", single_token_labels=True))
    fitted = task.fitted(lambda text: [0] if len(text.strip()) < 3 else [0] * len(text))
    tokens = fitted.label_tokens
    assert (
        fitted.prompt("hello")[0].content == f"Route it:\n- {tokens['billing']}: billing\n- {tokens['refund']}: refund"
    )
