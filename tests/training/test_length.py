from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import UserError
from tunewright.training.loop.prepare import _check_length

LONG = {"rope_type": "longrope", "original_max_position_embeddings": 512}
GROWING = {"rope_type": "yarn", "original_max_position_embeddings": 512, "llama_4_scaling_beta": 0.1}


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({}, False),
        ({"sliding_window": 512}, False),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, False),
        ({"rope_parameters": LONG}, True),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 512}, True),
        ({"rope_parameters": GROWING}, True),
        ({"rope_parameters": GROWING | {"original_max_position_embeddings": 1024}}, False),
    ],
)
def test_examples_that_runtimes_would_read_differently_are_refused(
    config: dict[str, object], refused: bool, tmp_path: Path
) -> None:
    if not refused:
        _check_length(config, tmp_path, 1024)
        return
    with pytest.raises(UserError, match="max_length=512"):
        _check_length(config, tmp_path, 1024)
