"""How long each target is tried: a fixed number of examples, or its share of the seconds of `make fuzz`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.running import try_examples, try_one

SECONDS = "TUNEWRIGHT_FUZZ_SECONDS"
"""Environment variable: seconds that all targets together are tried with other examples each time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What hangs in a library's own code hears no signal: its process is ended with all stacks told."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(600 + _seconds(), method="thread"))


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`try_examples` under the name of the test, which has its share of the seconds."""
    targets = sum("fuzz" in getattr(item, "fixturenames", ()) for item in request.session.items)
    name = re.sub(r"\W+", "-", f"{request.path.stem}-{request.node.name}")
    return partial(try_examples, name=name, seconds=_seconds() / targets)


@pytest.fixture
def keep() -> Callable[..., None]:
    """`try_one`."""
    return try_one


def _seconds() -> float:
    return float(os.environ.get(SECONDS) or 0)
