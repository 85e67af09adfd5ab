from __future__ import annotations

import pytest

from tests.conftest import ALL
from tunewright.core.processes import cpu_flags
from tunewright.inference.runtimes.vnni import compile as compiling
from tunewright.inference.runtimes.vnni import library


@pytest.fixture
def kernels_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with our own kernels, also where OpenVINO is the faster one."""
    flags = cpu_flags()
    if missing := library._NEEDED - flags:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    if not compiling.LIBRARY.is_file() and not ALL:
        pytest.skip("there was no C compiler when Tunewright was installed")
    monkeypatch.setattr(library, "_FASTER", "none")
    library.reason_against.cache_clear()
    assert library.reason_against() is None
