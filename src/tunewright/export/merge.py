"""Merging an adapter into its base."""

from __future__ import annotations

from pathlib import Path


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Write base + adapter as one Hugging Face folder in float16.

    The product is added in float32 and rounded once. An adapter trained on NF4 weights is merged into the 16-bit
    originals, which is a slightly different model: the parity table shows by how much.
    """
    import shutil

    import torch
    from peft import PeftModel

    from tunewright.models.torch_model import load_torch_model

    model = PeftModel.from_pretrained(load_torch_model(base), str(adapter)).merge_and_unload(safe_merge=True)
    model.to(torch.float16).save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        if (base / name).is_file():
            shutil.copy(base / name, target / name)
