"""The contract with the real llama.cpp: `make test-llama`.

llama-cpp-python is compiled when it is installed (five minutes on two cores), so it is not in `make test`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunewright.exporters.gguf.llama import PYTHON


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(item.fspath).parent == Path(__file__).parent]
    for item in here:
        item.add_marker(pytest.mark.llama)
    if PYTHON not in os.environ and not find_spec("llama_cpp"):
        skip = pytest.mark.skip(reason=f"{PYTHON} names no Python that has llama-cpp-python: make test-llama")
        for item in here:
            item.add_marker(skip)
