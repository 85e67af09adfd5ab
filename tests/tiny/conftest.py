"""What the tests on tiny models share: two random layers of each architecture, with a tokenizer that has every mark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, tunewright

FAMILIES = {
    "llama3": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": 128, "head_dim": 16}),
    "phi3": ("Phi3Config", {"original_max_position_embeddings": 512}),
    "chatml": ("Qwen2Config", {}),
}
_SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
]  # fmt: skip


@pytest.fixture(scope="session", params=FAMILIES)
def tiny_model(request: pytest.FixtureRequest, make_tiny_model: Callable[[str], tuple[str, Path]]) -> tuple[str, Path]:
    """(template family, folder) of each architecture in turn; see `make_tiny_model`."""
    return make_tiny_model(request.param)


@pytest.fixture(scope="session")
def make_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """Template family -> (family, folder): a two-layer random model, a byte-level tokenizer that has every mark."""
    return cache(lambda family: (family, _tiny_model(family, tmp_path_factory.mktemp(family))))


TINY = [
    "train.max_steps=3", "train.evaluations=1", "train.checkpoints=0", "train.max_length=2048", "train.batch_size=2",
    "evaluate.max_examples=3", "evaluate.few_shot=1", "export.precision=fp32", "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
]  # fmt: skip
"""What a run on a tiny random model is content with."""


def run_example(name: str, tiny_model: Path, folder: Path, *changes: str) -> tuple[Path, dict]:
    """An example, run in small on a tiny random model: (its project, the report).

    Args:
        folder: an empty one.
    """
    project, model = folder / name, folder / "tiny"
    shutil.copytree(REPOSITORY / "examples" / name, project, ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}), "utf-8")
    done = tunewright("run", str(project), f"model={model}", *TINY, *changes, "--json")
    assert done.returncode == 0, done.stderr
    return project, json.loads(done.stdout)


def _tiny_model(family: str, folder: Path) -> Path:
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": _SPECIAL[2:]})
    fast.save_pretrained(folder)
    name, extra = FAMILIES[family]
    config = getattr(transformers, name)(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, **extra,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    return folder
