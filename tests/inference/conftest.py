from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
    _forget()
    assert library.reason_against() is None
    yield
    _forget()


@pytest.fixture(scope="session")
def _other_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """flags of the compiler -> the kernels with AMX's instructions written in C."""

    @cache
    def compiled(flags: str) -> Path:
        folder = tmp_path_factory.mktemp("kernels")
        for name in ("compile.py", *compiling.SOURCES):
            shutil.copy(compiling.HERE / name, folder / name)
        compiler = f"cc -include {shlex.quote(str(Path(__file__).with_name('amx_in_c.h')))} {flags}"
        done = subprocess.run(
            [sys.executable, folder / "compile.py"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"CC": compiler},
        )
        assert done.stdout + done.stderr == ""
        return folder / compiling.LIBRARY.name

    return compiled


@pytest.fixture
def other_kernels(
    _other_library: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[None]]:
    """Within the context models are loaded by the same kernels with AMX, or without it: the other way than here. Or by
    kernels that may use an AMX that multiplies wrongly."""

    @contextmanager
    def put_in_place(wrong: bool = False) -> Iterator[None]:
        without = not wrong and bool(library.library().with_amx())
        flags = "-DMAY_USE_AMX=0" if without else "-DMAY_USE_AMX=1" + " -DROW_BYTE=uint8_t" * wrong
        with monkeypatch.context() as patch:
            patch.setattr(library, "LIBRARY", _other_library(flags))
            _forget()
            assert library.reason_against() is None
            assert bool(library.library().with_amx()) is not (without or wrong)
            yield
        _forget()

    return put_in_place


def _forget() -> None:
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
