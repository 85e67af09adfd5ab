"""What the doctor says about extras."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.doctor.machine import _extras


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(place: Path, module: str, distribution: str | None) -> None:
    (place / module).mkdir()
    (place / module / "__init__.py").touch()
    if distribution:
        metadata = place / f"{distribution.replace('-', '_')}-3.1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 3.1\n", "utf-8")
        (metadata / "RECORD").write_text(f"{module}/__init__.py,,\n", "utf-8")


@pytest.mark.parametrize(
    ("distribution", "found"),
    [
        ("quaint-module", "quaint-module 3.1"),
        ("quaint-module-skinny", "quaint-module-skinny 3.1"),
        (None, "installed"),
    ],
)
def test_an_extra_has_the_version_of_the_distribution_with_its_module(
    distribution: str | None, found: str, place: Path
) -> None:
    install(place, "quaint_module", distribution)
    (check,) = _extras({"mlflow": ("quaint_module",)})
    assert (check.passed, check.found) == (True, found)


def test_a_missing_module_of_an_extra_is_named() -> None:
    (check,) = _extras({"mlflow": ("quaint_module",)})
    assert (check.passed, check.found) == (False, "missing: quaint_module")
