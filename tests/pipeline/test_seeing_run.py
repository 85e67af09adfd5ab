"""A whole run on a Gemma 3 that also sees: its decoder is found, trained, merged, exported, measured and served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from tests.fixtures.tiny import run_example

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module")
def seeing(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the decoder of the tiny Gemma 3 and a tower beside it."""
    folder, text = tmp_path_factory.mktemp("seeing"), make_tiny_model("gemma3")[1]
    config = transformers.Gemma3Config(
        text_config=json.loads((text / "config.json").read_text("utf-8")) | {"max_position_embeddings": 4096},
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    )
    torch.manual_seed(0)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text((text / name).read_text("utf-8"), "utf-8")
    return folder


def test_a_model_that_also_sees_goes_through_every_step(
    seeing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    project, report = run_example("tickets", seeing, tmp_path, "export.precision=int8", "train.method=qlora")
    latest = project / "runs" / "latest"
    merged = json.loads((latest / "export" / "merged" / "config.json").read_text("utf-8"))
    assert (merged["model_type"], merged["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])
    assert (latest / "export" / "bundle" / "openvino").is_dir()
    assert "vision" not in (latest / "train" / "adapted.json").read_text("utf-8")
    assert json.loads((latest / "parity" / "parity.json").read_text("utf-8"))["passed"]
    assert report
