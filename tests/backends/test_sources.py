"""Files are laid out for the upload without being copied: a base model has gigabytes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tunewright.backends.azure.sources import BaseModelSource, Source


def _refuses(*_: object) -> None:
    raise OSError(18, "Invalid cross-device link")


@pytest.mark.parametrize("refused", [(), ("link",), ("link", "symlink")])
def test_files_are_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]) -> None:
    for name in refused:
        monkeypatch.setattr(os, name, _refuses)
    lying = tmp_path / "weights"
    lying.write_bytes(b"many")
    laid = Source("model", {"tiny/model.safetensors": lying}, "given/model/tiny").laid_out(tmp_path / "out")
    made = laid / "tiny" / "model.safetensors"
    assert made.read_bytes() == b"many"
    assert made.samefile(lying) == ("symlink" not in refused)


def test_a_base_model_is_one_asset_for_all_projects(tmp_path: Path) -> None:
    """Its commit identifies it, so its bytes are not read."""
    files = {"config.json": tmp_path / "config.json"}
    one, other = (BaseModelSource("model", files, "somebody/tiny", f"somebody/tiny@{commit}") for commit in "ab")
    assert one.asset("tickets") == one.asset("mail") == "tunewright-base-somebody-tiny"
    assert one.sha256 != other.sha256


def test_parts_that_differ_only_in_marks_have_names_of_their_own() -> None:
    parts = ("v1_0", "v1.0", "v1-0")
    keys = [f"{start}{part}" for start in ("data.test.", "recorded.") for part in parts]
    names = [Source(key, {}, "").name for key in keys]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)] == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("data.train", "data_train"),
        ("data.test.official", "data_test_official"),
        ("data.test.v1_0", "data_test_v1_0"),
        ("train.init_adapter", "train_init_adapter"),
        ("monitor.captures", "monitor_captures"),
    ],
)
def test_a_key_without_such_marks_is_its_name(key: str, name: str) -> None:
    """People copy new data into folders of these names."""
    assert Source(key, {}, "").name == name
