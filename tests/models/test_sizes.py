"""Sizes from a shape are those of the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pipeline.made import encoder_folder
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import EncoderShape, encoder_shape
from tunewright.models.sizes import Sizes, entry_of, shape_of, sizes_in, sizes_of
from tunewright.models.skeleton import skeleton


@pytest.mark.parametrize("name", ["smollm2-135m", "phi-3-mini", "qwen2.5-1.5b", "mistral-7b", "llama-3-8b"])
def test_sizes_are_counted_as_transformers_builds_the_model(name: str) -> None:
    shape = catalogue()[name].shape
    assert shape
    found = Sizes.of(shape)
    model = skeleton(shape.config(), "bfloat16")
    numbers = {id(each): each.numel() for each in model.parameters()}
    assert found.parameters == sum(numbers.values())
    written = [each.weight.numel() for name, each in model.named_modules() if name.endswith(("o_proj", "down_proj"))]
    assert found.written == max(written)
    assert found.layer == sum(each.numel() for each in model.model.layers[0].parameters())
    matrices = {id(each): len(each) for each in model.parameters() if each.ndim == 2}
    assert found.rows == sum(matrices.values())


def test_parameters_are_those_that_the_catalogue_names() -> None:
    for name, entry in catalogue().items():
        assert sizes_in(entry).parameters == pytest.approx(1e9 * entry.parameters, rel=0.03), name


def test_parts_that_a_shape_does_not_know_count_too() -> None:
    entry = catalogue()["llama-3.2-1b"]
    assert sizes_in(entry.model_copy(update={"parameters": 4.63})).parameters == 4_630_000_000
    assert sizes_in(entry.model_copy(update={"shape": None})).parameters == int(1e9 * entry.parameters)


def test_an_adapter_has_rank_times_the_sides() -> None:
    shape = catalogue()["smollm2-135m"].shape
    assert shape
    # LoRA r=16 on every linear layer of SmolLM2-135M trains 4.9 M numbers (docs/training.md's default).
    assert 16 * Sizes.of(shape).sides == 4_884_480


def test_a_folder_is_read_without_transformers(tmp_path: Path) -> None:
    shape = catalogue()["llama-3.2-1b"].shape
    assert shape
    shape.config().save_pretrained(tmp_path)
    assert sizes_of(str(tmp_path), Path()) == Sizes.of(shape)
    inner = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": inner}), "utf-8")
    assert shape_of(str(tmp_path), Path()) == shape.model_copy(update={"head_width": 64, "more": {}})


def folder_of(folder: Path, tensors: dict[str, tuple[int, int]], **config: object) -> str:
    """A model's folder with these tensors."""
    data = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 4}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", **data, **config}), "utf-8")
    save_file({name: np.zeros(shape, np.float16) for name, shape in tensors.items()}, folder / "model.safetensors")
    return str(folder)


def test_every_expert_counts(tmp_path: Path) -> None:
    """A shape knows of one only."""
    experts = {f"model.layers.0.mlp.experts.{n}.up_proj.weight": (8, 8) for n in range(100)}
    found = sizes_of(folder_of(tmp_path, experts), Path())
    assert found and found.parameters == 6400
    (tmp_path / "consolidated.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    assert sizes_of(str(tmp_path), Path()) == found, "a second copy counts no more"


def test_towers_and_a_tied_heads_copy_do_not_count(tmp_path: Path) -> None:
    big = {"lm_head.weight": (100, 100), "model.layers.0.mlp.up_proj.weight": (8, 8)}
    tied = sizes_of(folder_of(tmp_path, big, tie_word_embeddings=True), Path())
    assert tied and tied.parameters < 1000
    inner = json.loads((tmp_path / "config.json").read_text("utf-8"))
    towers = {f"model.vision_tower.{n}.weight": (100, 100) for n in range(3)}
    seeing = sizes_of(folder_of(tmp_path, towers, model_type="gemma3", text_config=inner), Path())
    assert seeing == tied


@pytest.mark.parametrize("key", ["num_attention_heads", "num_hidden_layers", "hidden_size"])
def test_a_config_with_a_size_of_zero_gives_no_sizes(key: str, tmp_path: Path) -> None:
    assert sizes_of(folder_of(tmp_path, {}, **{key: 0}), Path()) is None


def test_a_folder_has_an_entry_like_the_catalogues(tmp_path: Path) -> None:
    known = catalogue()["llama-3.2-1b"]
    assert known.shape
    known.shape.config(known.context).save_pretrained(tmp_path)
    found = entry_of(str(tmp_path), Path())
    assert found and (found.kind, found.context) == ("decoder", known.context)
    assert sizes_in(found) == Sizes.of(known.shape)
    assert entry_of("llama-3.2-1b", tmp_path) == known
    assert entry_of("owner/name", tmp_path) is None
    encoder = entry_of(str(encoder_folder(tmp_path / "encoder")), Path())
    assert encoder and (encoder.kind, encoder.context, encoder.embeddings) == ("encoder", 128, 64_000 / 1e9)


def test_an_unknown_model_has_no_sizes(tmp_path: Path) -> None:
    assert sizes_of("owner/name", tmp_path) is None
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert sizes_of(str(tmp_path), tmp_path) is None


def test_an_encoder_is_not_taken_for_a_decoder(tmp_path: Path) -> None:
    found = sizes_of(str(encoder_folder(tmp_path)), Path())
    assert found and (found.kind, found.vocabulary) == ("encoder", 64_000)
    assert found.parameters == 64_000 + 2 * (4 * 64**2 + 2 * 64 * 256)
    assert shape_of(str(tmp_path), Path()) is None


def test_embeddings_of_the_catalogues_encoders_are_part_of_their_parameters() -> None:
    for name, entry in catalogue().items():
        sizes = sizes_in(entry)
        assert sizes.kind == entry.kind, name
        assert (0 < entry.embeddings < entry.parameters) == (entry.kind == "encoder"), name


def test_distilberts_own_words_are_known() -> None:
    config = {"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 9}
    assert encoder_shape(config) == EncoderShape(768, 6, 12, 3072, 9)
    assert encoder_shape({"model_type": "bert"}) is None
