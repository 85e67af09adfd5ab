"""The generated set of tool calls: every call fits its tool, and the test has other phrasings and other values."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY
from tunewright.config.tool_list import tool_list
from tunewright.data.readers.chat import messages
from tunewright.tasks import Message
from tunewright.tasks.tools import NO_CALL, ToolsTask, said


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    monkeypatch.delitem(sys.modules, "tools_set", raising=False)
    import tools_set

    return tools_set


def test_every_tool_is_called_as_it_takes_it(made: ModuleType) -> None:
    tools = tool_list(made.tools(), Path())
    assert len(tools) >= 20
    task = ToolsTask("Help.", tools)
    for phrasings in (False, True):
        called: Counter[str] = Counter()
        for row in made.rows(800, new_phrasings=phrasings, new_values=phrasings, seed=1):
            answer = Message.model_validate(messages(row["messages"], [])[-1])
            call = said(task.canonical(task.answer_in(answer)))
            assert call
            called[call.tool or NO_CALL] += 1
        assert len(called) == len(tools) + 1
        assert called[NO_CALL] == 100


def test_the_test_has_other_phrasings_and_other_values(made: ModuleType) -> None:
    def requests(phrasings: bool, values: bool) -> tuple[set[str], set[str]]:
        found = list(made.rows(2000, new_phrasings=phrasings, new_values=values, seed=0))
        return {row["template"] for row in found}, {
            row["messages"][0]["content"] for row in found if "{" in row["template"]
        }

    (seen, texts), (same, values), (new, both) = requests(False, False), requests(False, True), requests(True, True)
    assert same == {template for template in seen if "{" in template}
    assert not seen & new
    assert not texts & (values | both)
    for name, (_, draw) in made.kinds().items():
        drawn = [{draw(made.random.Random(n), is_test)[0] for n in range(300)} for is_test in (False, True)]
        assert not drawn[0] & drawn[1], name
    assert list(made.rows(9, new_phrasings=True, new_values=True, seed=3)) == list(
        made.rows(9, new_phrasings=True, new_values=True, seed=3)
    )
