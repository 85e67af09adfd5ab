from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.errors import UserError
from tunewright.train.prepare import _check_length


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({}, False),
        ({"sliding_window": None}, False),
        ({"sliding_window": 1024}, False),
        ({"sliding_window": 512}, True),
        ({"sliding_window": 512, "use_sliding_window": False}, False),
        ({"max_position_embeddings": 1024}, False),
        ({"max_position_embeddings": 512}, True),
    ],
)
def test_examples_longer_than_the_model_reads_are_refused(
    config: dict[str, object], refused: bool, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if not refused:
        _check_length(tmp_path, 1024)
        return
    with pytest.raises(UserError, match="max_length=512"):
        _check_length(tmp_path, 1024)
