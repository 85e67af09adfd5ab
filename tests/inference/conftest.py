from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ALL
from tests.fixtures.tiny import write_tiny_model
from tests.inference.kernels import FAMILIES, OTHERS
from tunewright.core.processes import cpu_flags
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.runtimes.vnni import compile as compiling
from tunewright.inference.runtimes.vnni import library


@pytest.fixture
def kernels_here() -> Iterator[None]:
    """A processor with our own kernels. What a test makes of them is forgotten afterwards."""
    if missing := library._NEEDED - cpu_flags():
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    if not compiling.LIBRARY.is_file() and not ALL:
        pytest.skip("there was no C compiler when Tunewright was installed")
    library.reason_against.cache_clear()
    assert library.reason_against() is None
    yield
    library.library.cache_clear()
    library.reason_against.cache_clear()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(family, precision) -> a folder with `hub`, the model, and `int8` or `int4`."""

    @cache
    def write(name: str, precision: str = "int8") -> Path:
        folder = tmp_path_factory.mktemp("vnni")
        write_tiny_model((FAMILIES | OTHERS)[name], folder / "hub")
        build_openvino(folder / "hub", folder / precision, precision)
        return folder

    return write
