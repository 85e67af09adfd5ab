"""Of models that also see and hear, the text decoder alone is trained and served: the same answers, no towers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.models.test_resolve import CHATML
from tunewright.core.errors import UserError
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.models.resolve import resolve
from tunewright.models.text_decoder import text_decoder

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 64,
}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def whole_model(kind: str) -> torch.nn.Module:
    """A tiny model with a tower for images."""
    torch.manual_seed(0)
    match kind:
        case "gemma3":
            config = transformers.Gemma3Config(
                text_config={**SIZES, "sliding_window": 8},
                vision_config={**TOWER, "image_size": 28, "patch_size": 14},
                mm_tokens_per_image=4,
            )
            return transformers.Gemma3ForConditionalGeneration(config)
        case "mistral3":
            config = transformers.Mistral3Config(
                text_config={**SIZES, "model_type": "ministral3", "tie_word_embeddings": False},
                vision_config={**TOWER, "image_size": 28, "patch_size": 14, "head_dim": 8, "model_type": "pixtral"},
            )
            return transformers.Mistral3ForConditionalGeneration(config)
        case _:
            text = {
                **SIZES,
                "vocab_size_per_layer_input": 64,
                "hidden_size_per_layer_input": 8,
                "global_head_dim": 32,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention"],
            }
            vision = {**TOWER, "num_key_value_heads": 2, "head_dim": 8}
            config = transformers.Gemma4Config(text_config=text, vision_config=vision, audio_config=None)
            return transformers.Gemma4ForConditionalGeneration(config)


@pytest.fixture(params=["gemma3", "mistral3", "gemma4"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    model, folder = whole_model(request.param), tmp_path / request.param
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / "tokenizer.json").write_text(CHATML, "utf-8")
    return model, folder


def test_a_decoder_answers_as_within_the_whole(whole: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    model, folder = whole
    decoder = load_torch_model(text_decoder(folder, tmp_path / "cache"))
    assert not [name for name, _ in decoder.named_parameters() if "vision" in name or "projector" in name]
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        wanted, found = model.eval()(input_ids=ids).logits, decoder(input_ids=ids).logits
    torch.testing.assert_close(found, wanted)


def test_a_decoder_is_copied_once_and_whole_or_not_at_all(
    whole: tuple[torch.nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    shard = next(file for file in sorted(whole[1].glob("*.safetensors")) if holds_decoder(file))
    content = shard.read_bytes()
    shard.write_bytes(content[:-4])
    with pytest.raises(UserError, match="is cut"):
        resolve(str(whole[1]), tmp_path)
    shard.write_bytes(content)
    first = resolve(str(whole[1]), tmp_path).folder
    assert first != whole[1]
    assert resolve(str(whole[1]), tmp_path).folder == first
    assert not list((tmp_path / "cache" / "models").glob(".*.partial"))


def test_a_decoder_is_copied_anew_where_its_model_was_changed(tmp_path: Path) -> None:
    model, folder, cache = whole_model("gemma3"), tmp_path / "model", tmp_path / "cache"
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(CHATML, "utf-8")
    first = text_decoder(folder, cache)
    (folder / "tokenizer.json").write_text(CHATML.replace("im_end", "im_last"), "utf-8")
    second = text_decoder(folder, cache)
    assert "im_last" in (second / "tokenizer.json").read_text("utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    third = text_decoder(folder, cache)
    assert json.loads((third / "config.json").read_text("utf-8"))["eos_token_id"] == 7
    (tmp_path / "other").mkdir()
    moved = folder.rename(tmp_path / "other" / "model")
    assert len({first, second, third, text_decoder(moved, cache)}) == 4


def test_a_decoder_that_is_there_needs_no_cache_that_can_be_written_to(tmp_path: Path) -> None:
    whole_model("gemma3").save_pretrained(tmp_path / "model")
    found = text_decoder(tmp_path / "model", tmp_path / "cache")
    for lock in (tmp_path / "cache").glob("*.lock"):
        lock.unlink()
    assert text_decoder(tmp_path / "model", tmp_path / "cache") == found
    assert not list((tmp_path / "cache").glob("*.lock"))


def holds_decoder(file: Path) -> bool:
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())[-1].startswith(("model.language_model", "language_model"))


def test_the_older_spelling_of_names_is_known_too(tmp_path: Path) -> None:
    model, folder, older = whole_model("gemma3"), tmp_path / "new", tmp_path / "old"
    model.save_pretrained(folder)
    older.mkdir()
    (older / "config.json").write_text((folder / "config.json").read_text("utf-8"), "utf-8")
    renamed = {
        name.replace("model.language_model.", "language_model.model.").replace("model.vision", "vision"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(renamed, older / "model.safetensors")
    one, other = (load_torch_model(text_decoder(each, tmp_path / "cache")).state_dict() for each in (folder, older))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_that_reads_text_only_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    assert text_decoder(tmp_path, tmp_path / "cache") == tmp_path


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}", "utf-8")
    config = {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UserError, match=r"quantised already \(fp8\)"):
        resolve(str(tmp_path), tmp_path)
