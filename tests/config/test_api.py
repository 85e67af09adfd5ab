"""The spec's section about the API that is paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import make_spec, spec_data
from tunewright.config import parse_spec
from tunewright.core.errors import UserError


@pytest.mark.parametrize(
    "override",
    [
        {"url": "https://me:sk-secret@example.com/v1"},
        {"url": "https://example.com/v1?key=sk-secret"},
        {"key": "sk-secret"},
    ],
)
def test_a_secret_in_the_spec_is_refused_and_not_shown(override: dict[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        make_spec(api=override)
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(UserError) as caught:
        parse_spec(json.dumps(spec_data()), Path("x"), [f"api.{name}={value}" for name, value in override.items()])
    assert "sk-secret" not in str(caught.value)


def test_one_source_of_answers_is_named() -> None:
    with pytest.raises(UserError, match="set one of them"):
        make_spec(api={"url": "https://api.openai.com/v1", "recorded": "old.jsonl"})
