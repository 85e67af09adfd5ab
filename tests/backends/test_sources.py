"""Files are laid out for the upload without being copied: a base model has gigabytes."""

from __future__ import annotations

import os
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
