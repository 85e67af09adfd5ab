"""Every recipe, run without numbers on its card: it fits, and its header says what is predicted."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tunewright.config.recipes import recipe_names, recipe_text
from tunewright.models.catalogue import catalogue
from tunewright.training.planning.footprint import footprint
from tunewright.training.planning.plan import GIB

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

_BENCH = Path(__file__).parents[2] / "bench" / "recipes.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    specification = importlib.util.spec_from_file_location("bench_recipes", _BENCH)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.nightly if number % 3 else ()) for number, name in enumerate(recipe_names())],
)
def test_a_recipe_fits_its_card_and_its_header_is_what_is_predicted(name: str, bench: ModuleType) -> None:
    line = bench.predicted(name)
    assert line in recipe_text(name)
    if card := re.search(r"at most ([\d.]+) of ([\d.]+) GiB", line):
        assert float(card[1]) <= float(card[2]) * (1 - bench.MARGIN)


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith(("-t4", "-a10", "-a100", "-h100"))])
def test_a_recipe_uses_its_card(name: str, bench: ModuleType) -> None:
    """A step in several passes has batches of which twice as many examples would not fit."""
    spec = bench.spec_of(name)
    settings = spec.train
    assert settings.batch_size * settings.gradient_accumulation_steps == 16
    if settings.gradient_accumulation_steps == 1:
        return
    twice = bench.rows(2 * settings.batch_size, 0, settings.max_length)
    needed = footprint(catalogue()[spec.model].shape.config(), settings, twice, "bfloat16").peak / GIB
    usable = float(re.findall(r"at most [\d.]+ of ([\d.]+) GiB", recipe_text(name))[0])
    assert needed > usable * (1 - bench.MARGIN)
