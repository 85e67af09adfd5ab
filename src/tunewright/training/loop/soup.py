"""Averaging adapters: a model soup.

Adapters that start from the same base and differ by seed make different mistakes on inputs unlike those they were
trained on. The mean of their updates answers about as well as letting all of them vote, at the cost of one.
Source: Wortsman et al. 2022, "Model soups".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def average_adapters(adapters: Sequence[Path], target: Path, base: str) -> None:
    """Write the mean of several LoRA adapters of one shape as one adapter, exactly.

    The mean of K products B·A, each of rank r, is one product of rank K·r: the A stand one below the other, the B side
    by side, divided by K. The scale alpha / r stays what it was.

    Args:
        adapters: peft's folders, alike but for their values; at least one.
        base: the base model's name in the adapter's config, in place of where it lies on this machine.
    """
    import torch
    from safetensors.torch import load_file, save_file

    members = [load_file(adapter / "adapter_model.safetensors") for adapter in adapters]
    count = len(members)
    mean = {}
    for name in members[0]:
        parts = [member[name] for member in members]
        mean[name] = torch.cat(parts, 0) if ".lora_A." in name else torch.cat(parts, 1) / count
    config = json.loads((adapters[0] / "adapter_config.json").read_text("utf-8"))
    config |= {"r": config["r"] * count, "lora_alpha": config["lora_alpha"] * count}
    # peft writes a set in whatever order it has; the same training is to give the same bytes.
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    target.mkdir()
    save_file(mean, target / "adapter_model.safetensors", metadata={"format": "pt"})
    (target / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
