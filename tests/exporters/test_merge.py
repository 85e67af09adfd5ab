"""Merging from file to file: what peft makes of the same adapter, in the base's own type, or a reason why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunewright.core.errors import UserError
from tunewright.exporters.merging import merge
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.models.tensor_files import ALONE, INDEX, Weights

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


def _adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """Of random numbers, on every linear layer."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    model = get_peft_model(load_torch_model(base), config)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def _of_type(base: Path, folder: Path, dtype: str, shard: str = "5GB") -> Path:
    """The base in another type, and in shards."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    load_torch_model(base, dtype=dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.mark.parametrize(
    ("dtype", "merged_type"),
    [
        ("float32", "float16"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
    ],
)
def test_a_merged_model_is_what_peft_makes_of_it(
    any_model: tuple[str, Path], tmp_path: Path, dtype: str, merged_type: str
) -> None:
    """Added in float32 and rounded once, for every architecture; a base in shards stays in shards."""
    from peft import PeftModel

    adapter = _adapter(any_model[1], tmp_path / "adapter")
    base = _of_type(any_model[1], tmp_path / "base", dtype, shard="100KB")
    merge(base, adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / INDEX).is_file()
    exact = PeftModel.from_pretrained(load_torch_model(base), str(adapter)).merge_and_unload().state_dict()
    loaded = load_torch_model(tmp_path / "merged", dtype=merged_type)
    kind = getattr(torch, merged_type)
    for name, value in loaded.state_dict().items():
        # Sums of products in another order may lie on the other side of a half.
        near = 2 * torch.finfo(kind).eps * exact[name].abs().max()
        assert (value.float() - exact[name].to(kind).float()).abs().max() <= near, name
    assert json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))["dtype"] == merged_type


def test_one_file_of_another_name_is_found_again(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    base, name = tmp_path / "base", "model-00001-of-00001.safetensors"
    shutil.copytree(make_tiny_model("llama3")[1], base)
    (base / "model.safetensors").rename(base / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(Weights(base), name)}
    (base / INDEX).write_text(json.dumps(index), "utf-8")
    merge(base, _adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert load_torch_model(tmp_path / "merged")


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"alpha_pattern": {"down_proj": 20}, "use_rslora": False}])
def test_scales_are_those_of_peft(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, settings: dict[str, Any]
) -> None:
    from peft import PeftModel

    base = make_tiny_model("llama3")[1]
    adapter = _adapter(base, tmp_path / "adapter", **settings)
    merge(base, adapter, tmp_path / "merged")
    exact = PeftModel.from_pretrained(load_torch_model(base), str(adapter)).merge_and_unload().state_dict()
    merged = Weights(tmp_path / "merged")
    for name, tensor in merged.items():
        np.testing.assert_allclose(tensor.float32(), exact[name].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"modules_to_save": ["embed_tokens"]}, "embed_tokens"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, settings: dict[str, Any], why: str
) -> None:
    base = make_tiny_model("llama3")[1]
    with pytest.raises(UserError, match=f"not plain LoRA(.|\n)*{why}"):
        merge(base, _adapter(base, tmp_path / "adapter", **settings), tmp_path / "merged")


def test_an_adapter_of_another_base_is_refused(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    adapter = _adapter(make_tiny_model("llama3")[1], tmp_path / "adapter")
    with pytest.raises(UserError, match="does not belong to this base model"):
        merge(make_tiny_model("phi3")[1], adapter, tmp_path / "merged")


def test_a_sum_that_is_no_number_is_refused(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> None:
    base = make_tiny_model("llama3")[1]
    adapter = _adapter(base, tmp_path / "adapter")
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * 1e4 for name, tensor in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="not finite numbers in float16"):
        merge(base, adapter, tmp_path / "merged")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_base_with_weights_that_are_no_numbers_is_refused(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, dtype: str
) -> None:
    """In a tensor that the adapter does not change."""
    from safetensors.torch import load_file, save_file

    base = _of_type(make_tiny_model("llama3")[1], tmp_path / "base", dtype)
    adapter = _adapter(base, tmp_path / "adapter")
    tensors = load_file(base / ALONE)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, base / ALONE, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"The base model's weights of model\.norm\.weight are not finite"):
        merge(base, adapter, tmp_path / "merged")
