"""Every recipe, run without numbers on its card: it fits, and its header says what is predicted."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tunewright.spec.recipes import recipe_names, recipe_text

_BENCH = Path(__file__).parents[2] / "bench" / "recipes.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    specification = importlib.util.spec_from_file_location("bench_recipes", _BENCH)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_fits_its_card_and_its_header_is_what_is_predicted(name: str, bench: ModuleType) -> None:
    line = bench.predicted(name)
    assert line in recipe_text(name)
    if card := re.search(r"at most ([\d.]+) of ([\d.]+) GiB", line):
        assert float(card[1]) < float(card[2])
