from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.errors import UserError
from tunewright.train.prepare import _check_window


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({}, False),
        ({"sliding_window": None}, False),
        ({"sliding_window": 1024}, False),
        ({"sliding_window": 512}, True),
        ({"sliding_window": 512, "use_sliding_window": False}, False),
    ],
)
def test_examples_longer_than_the_window_are_refused(config: dict[str, object], refused: bool, tmp_path: Path) -> None:
    if not refused:
        _check_window(config, tmp_path, 1024)
        return
    with pytest.raises(UserError, match="max_length=512"):
        _check_window(config, tmp_path, 1024)
