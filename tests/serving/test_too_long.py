"""A text that can't fit is refused by its number of letters, before it is tokenized."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.inference.test_grammar import TOKENS
from tunewright.core.limits import MOST_CHUNKS
from tunewright.serving.engine import Engine, TooLong


class Model:
    """A predictor that must get no text that is too long."""

    at_once = 1
    longest_answer = 10

    def prompts(self, request: str) -> list[list[int]]:
        assert len(request) < 100_000, "it was read"
        return [[0]]


def engine(kind: str) -> Engine:
    bundle: Any = SimpleNamespace(
        reader=TOKENS,
        info=SimpleNamespace(context=110),
        task=SimpleNamespace(kind=kind),
        predictor=lambda _: Model(),
        second=None,
    )
    return Engine(bundle, SimpleNamespace(at_once=1))


@pytest.mark.parametrize(("kind", "windows"), [("generate", 1), ("classify", 1), ("extract", MOST_CHUNKS)])
def test_a_text_of_too_many_letters_is_refused_before_tokenizing(kind: str, windows: int) -> None:
    most = windows * TOKENS.most_letters(100)
    with pytest.raises(TooLong, match=f"this model takes {most:,}"):
        engine(kind).stream("x" * max(most + 1, 100_000))
    if most < 100_000:
        assert engine(kind)._prompts("x" * most) == [[0]]
