"""A model's folder is looked at before hours of work rest on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.core.errors import UserError
from tunewright.models.tensor_files import TensorWriter
from tunewright.models.whole import check_whole

CONFIG = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "vocab_size": 32}


def made(folder: Path, **changes: Any) -> Path:
    """A folder with the headers of a decoder, and a config with changes."""
    writer = TensorWriter(folder / "model.safetensors", 20)
    writer.write("model.embed_tokens.weight", np.zeros((32, 8), np.float16))
    for layer in range(2):
        writer.write(f"model.layers.{layer}.mlp.down_proj.weight", np.zeros((8, 16), np.float16))
        writer.write(f"model.layers.{layer}.input_layernorm.weight", np.zeros(8, np.float16))
    writer.close()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes), "utf-8")
    return folder


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    check_whole(made(tmp_path))


def test_the_decoder_of_a_model_that_sees_passes(tmp_path: Path) -> None:
    check_whole(made(tmp_path, text_config=CONFIG, hidden_size=99))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_hidden_layers": 3}, "lack the layer 2"),
        ({"num_hidden_layers": 1}, "the weights have 2"),
        ({"hidden_size": 12}, r"shape \[32, 12\]; in the files it has \[32, 8\]"),
        ({"vocab_size": 33}, r"\[33, 8\]"),
        ({"intermediate_size": 24}, r"down_proj"),
    ],
)
def test_the_config_of_another_model_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=rf"not that of its weights(.|\n)*{why}"):
        check_whole(made(tmp_path, **changes))


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="can't be read"):
        check_whole(tmp_path)
