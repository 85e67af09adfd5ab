"""What the doctor says about extras, and about a project's prices, data and base model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec, write_project
from tests.pipeline.made import model_folder
from tunewright.doctor.machine import _data, _extras, _model, _prices, _project


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


def test_a_model_that_pip_would_find_needs_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path))
    assert _model("smollm2-135m", tmp_path).passed
    monkeypatch.setitem(sys.modules, "pip", None)
    check = _model("smollm2-135m", tmp_path)
    assert not check.passed
    assert "-m ensurepip" in check.remedy


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"traffic": {"machine": "Standard_D2_v5"}}, "no 'Standard_D2_v5' (traffic.machine)"),
        ({"judge": {"model": "ours", "priced_as": "gpt-5o"}}, "no 'gpt-5o' (judge.priced_as)"),
        ({"api": {"model": "gpt-5o"}}, "no 'gpt-5o' (api.model)"),
        ({"prices": "absent.yaml"}, "absent.yaml: This price book does not exist."),
    ],
)
def test_what_has_no_price_is_a_row(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert _prices(make_spec(tmp_path)).passed
    check = _prices(make_spec(tmp_path, **changes))
    assert not check.passed
    assert expected in check.found
    assert check.remedy


@pytest.mark.parametrize("key", ["prices", "model"])
def test_every_error_is_a_row(key: str, tmp_path: Path) -> None:
    model = model_folder("mistral-7b", tmp_path / "model")
    project = write_project(tmp_path / "project", **{"model": str(model), key: "~nosuch/one"})
    failed = {check.name: check for check in _project(project, False) if not check.passed}
    name = {"model": "base model"}.get(key, key)
    assert failed[name].found.startswith("~nosuch/one: This can't be read: ")


def test_data_that_are_there_are_not_said_to_be_missing(tmp_path: Path) -> None:
    assert "There is no such data file" in _data(make_spec(tmp_path)).found
    os.mkfifo(tmp_path / "train.jsonl")
    assert "This is a pipe, not a file." in _data(make_spec(tmp_path)).found
