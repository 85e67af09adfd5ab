"""Files of a base model that were brought from another machine are found as if they had been fetched here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from tests.conftest import TOKENIZER
from tunewright.models.naming import cached_folder
from tunewright.models.resolve import adopt, files_of_named, folder_of

HUB = "somebody/tiny"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty ones, and no network."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def model(folder: Path) -> Path:
    """A folder as the hub has it, with more in it than is ever read."""
    shutil.copytree(TOKENIZER, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"some.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"another form")
    return folder


def test_a_model_of_the_hub(caches: Path) -> None:
    brought = model(caches / "brought")
    for _ in range(2):  # two processes of a node do the same
        adopt(HUB, brought)
    assert folder_of(HUB, caches).resolve() == brought
    files, pinned = files_of_named(HUB, caches)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert not {"pytorch_model.bin", "onnx/model.onnx"} & files.keys()
    assert all(path.is_file() for path in files.values())
    assert pinned.startswith(f"{HUB}@"), "the commit stands for the content"


def test_a_model_of_the_catalogue(caches: Path) -> None:
    brought = model(caches / "brought")
    assert cached_folder("smollm2-135m") is None
    adopt("smollm2-135m", brought)
    assert folder_of("smollm2-135m", caches).resolve() == brought
