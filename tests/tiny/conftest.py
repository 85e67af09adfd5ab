"""What the tests on tiny models share: two random layers of each architecture, with a tokenizer that has every mark."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, tunewright
from tunewright.models.chat import ChatTemplate

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama3": ("llama3", "LlamaConfig", {}),
    "mistral": ("mistral", "MistralConfig", {"sliding_window": 128, "head_dim": 16}),
    "phi3": ("phi3", "Phi3Config", {"original_max_position_embeddings": 512}),
    "chatml": ("chatml", "Qwen2Config", {}),
}
"""Template, transformers' config, what differs from a small Llama: those that every test runs on."""
NEWER: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("qwen3", "Qwen3Config", {"head_dim": 32}),
    "gemma3": (
        "gemma3",
        "Gemma3TextConfig",
        {
            "head_dim": 32,
            "sliding_window": 128,
            "query_pre_attn_scalar": 24,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
    ),
    "llama3.1": (
        "llama3.1",
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            }
        },
    ),
    "phi4": (
        "phi4",
        "Phi3Config",
        {
            "hidden_size": 128,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 512,
            "sliding_window": 262144,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 512,
                "short_factor": [1 + i / 10 for i in range(24)],
                "long_factor": [2.0 + i for i in range(24)],
            },
        },
    ),
    "ministral": (
        "mistral-tekken",
        "MinistralConfig",
        {"head_dim": 16, "sliding_window": 128, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "ministral3": (
        "mistral-v7",
        "Ministral3Config",
        {
            "head_dim": 32,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 2.0,
                "original_max_position_embeddings": 256,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    "gemma4": (
        "gemma4",
        "Gemma4TextConfig",
        {
            "head_dim": 16,
            "global_head_dim": 32,
            "sliding_window": 128,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 300,
            "use_double_wide_mlp": True,
            "final_logit_softcapping": 30.0,
        },
    ),
}
"""Those that each step and each runtime is tried on once."""
_SPECIAL = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|turn>",
    "<turn|>",
]


@pytest.fixture(scope="session", autouse=True)
def forked_steps(prepared_steps: int) -> None:
    """Steps are forks of a process that has imported what they need; see `tests.prepared`."""


@pytest.fixture(scope="session", params=FAMILIES)
def tiny_model(request: pytest.FixtureRequest, make_tiny_model: Callable[[str], tuple[str, Path]]) -> tuple[str, Path]:
    """(template family, folder) of each architecture in turn; see `make_tiny_model`."""
    return make_tiny_model(request.param)


@pytest.fixture(scope="session", params=[*FAMILIES, *NEWER])
def any_model(request: pytest.FixtureRequest, make_tiny_model: Callable[[str], tuple[str, Path]]) -> tuple[str, Path]:
    """As `tiny_model`, of the newer architectures too."""
    return make_tiny_model(request.param)


@pytest.fixture(scope="session")
def make_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """Family -> (template, folder): a two-layer random model, a byte-level tokenizer that has every mark."""
    known = FAMILIES | NEWER
    return cache(lambda family: (known[family][0], write_tiny_model(known[family], tmp_path_factory.mktemp(family))))


TINY = [
    "train.max_steps=3",
    "train.num_evaluations=1",
    "train.num_checkpoints=0",
    "train.max_length=2048",
    "train.batch_size=2",
    "evaluate.max_examples=3",
    "evaluate.few_shot=1",
    "export.precision=fp32",
    "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
]
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


def write_tiny_model(family: tuple[str, str, dict[str, Any]], folder: Path) -> Path:
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
    template, name, extra = family
    (folder / "chat_template.jinja").write_text(ChatTemplate.named(template).source, "utf-8")
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    config = getattr(transformers, name)(
        **{
            "vocab_size": len(fast),
            "bos_token_id": fast.bos_token_id,
            "eos_token_id": fast.eos_token_id,
            "pad_token_id": fast.pad_token_id,
            **sizes,
            **copy.deepcopy(extra),
        }
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    for part, parameter in model.named_parameters():
        if "norm" in part:  # as trained ones they are no ones, so that no test passes that leaves them out
            parameter.data += torch.empty_like(parameter).uniform_(-0.4, 0.6)
    model.save_pretrained(folder)
    return folder
