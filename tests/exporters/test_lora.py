"""Scales of an adapter, which its settings give by regular expressions. tests/training compare them with peft's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.test_linear_time import MANY, ends_in_time
from tunewright.core.errors import UserError
from tunewright.exporters.lora import Update, _update

BOTH = {"A": np.zeros((4, 8), np.float32), "B": np.zeros((8, 4), np.float32)}


def update(name: str, patterns: dict[str, Any]) -> Update:
    return _update(name, BOTH, {"lora_alpha": 8, "alpha_pattern": patterns}, Path("adapter"))


@pytest.mark.parametrize(
    ("name", "pattern", "scale"),
    [
        ("model.layers.0.down_proj", "down_proj", 5),
        ("down_proj", "down_proj", 5),
        ("model.layers.0.down_proj", r"layers\.\d+\.down_proj", 5),
        ("model.layers.0.updown_proj", "down_proj", 2),
        ("model.layers.0.down_proj.more", "down_proj", 2),
    ],
)
def test_a_pattern_stands_for_the_end_of_a_name(name: str, pattern: str, scale: float) -> None:
    assert update(name, {pattern: 20}).scale == scale


def test_a_pattern_that_never_ends_elsewhere_takes_no_time() -> None:
    assert ends_in_time(lambda: update("x" * MANY, {"(x+x+)+y": 20}))


def test_a_pattern_that_can_t_be_used_is_refused() -> None:
    with pytest.raises(UserError, match=r"alpha_pattern has '\(\?=a\)', which can't be used"):
        update("a", {"(?=a)": 20})
