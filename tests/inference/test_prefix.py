from __future__ import annotations

import pytest

from tunewright.inference.runtimes.prefix import common_prefix


@pytest.mark.parametrize(
    ("cached", "asked", "served"),
    [
        ([], [1, 2], 0),
        ([1, 2, 3], [1, 2, 4], 2),
        ([1, 2], [1, 2, 3, 4], 2),
        ([1, 2, 3, 4], [1, 2], 1),
        ([9], [1], 0),
    ],
)
def test_the_common_beginning_is_served_from_the_cache(cached: list[int], asked: list[int], served: int) -> None:
    assert common_prefix(cached, asked) == served


def test_the_last_token_is_always_run_again() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 3]) == 2
