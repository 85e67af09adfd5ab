from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from tunewright.inference.runtimes.base import ADAPTER_FOLDER, FOLDERS, RuntimeName, best_runtime, runtime_in


@pytest.mark.parametrize(
    ("model_type", "machine", "runtime"),
    [
        ("llama", "x86_64", "openvino"),
        ("phi3", "AMD64", "openvino"),
        ("gemma3", "x86_64", "onnxruntime"),
        ("llama", "arm64", "onnxruntime"),
    ],
)
def test_openvino_serves_where_it_knows_model_and_processor(
    model_type: str, machine: str, runtime: RuntimeName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert best_runtime(tmp_path) == runtime


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bundles_folders_give_its_runtime(name: RuntimeName, tmp_path: Path) -> None:
    (tmp_path / FOLDERS[name]).mkdir()
    if name.endswith("-lora"):
        (tmp_path / ADAPTER_FOLDER).mkdir()
    assert runtime_in(tmp_path) == name
