"""The material of the self-test: a random model of four layers per architecture, and a job for it to learn."""

from __future__ import annotations

import json
import random
from importlib import resources
from pathlib import Path
from typing import Any

from tunewright.config import Spec, parse_spec

ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "llama3", {}),
    "mistral": ("MistralConfig", "mistral", {"sliding_window": 512, "head_dim": 64}),
    "phi3": ("Phi3Config", "phi3", {"original_max_position_embeddings": 2048, "num_key_value_heads": 4}),
    "qwen2": ("Qwen2Config", "chatml", {}),
    "qwen3": ("Qwen3Config", "chatml", {"head_dim": 64}),
    "gemma3_text": (
        "Gemma3TextConfig",
        "chatml",
        {
            "head_dim": 64,
            "sliding_window": 512,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
    ),
}
"""The config class of transformers, the chat template, and the settings that differ from the others'."""
WINDOW = 512
"""Tokens in the window of layers with sliding attention."""
_SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
_MARKS = [
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
]
_LABELS = ["billing", "defect", "refund"]
_EXAMPLES = 48


def make_tokenizer(template: str, folder: Path) -> Any:
    """A byte-level tokenizer with the special tokens of every template, saved in a folder with one chat template."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.add_special_tokens({"additional_special_tokens": _MARKS[2:]})
    fast.save_pretrained(folder)
    source = resources.files("tunewright.models") / "templates" / f"{template}.jinja"
    (folder / "chat_template.jinja").write_text(source.read_text("utf-8"), "utf-8")
    return fast


def make_model(architecture: str, folder: Path) -> None:
    """A random model in bfloat16, with a tokenizer and its template."""
    import torch
    import transformers

    name, template, extra = ARCHITECTURES[architecture]
    fast = make_tokenizer(template, folder)
    config = getattr(transformers, name)(
        **_SHAPE
        | {
            "vocab_size": len(fast),
            "bos_token_id": fast.bos_token_id,
            "eos_token_id": fast.eos_token_id,
            "pad_token_id": fast.pad_token_id,
            **extra,
        }
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def make_spec(model: Path, folder: Path, runtime: str = "auto", **train: object) -> Spec:
    """A classification of made-up texts, trained for three steps; its data lies in the folder.

    Args:
        model: the base model's folder.
        runtime: of the export.
        train: further settings of the training.
    """
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 9))) for _ in range(400)]
    texts = [" ".join(draw.sample(words, draw.randint(4, 12))) for _ in range(_EXAMPLES)]
    rows = [{"text": text, "label": _LABELS[number % len(_LABELS)]} for number, text in enumerate(texts)]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    content = {
        "name": "selftest",
        "task": {"kind": "classify", "instruction": "Which team is this for? " * 6 + "{labels}", "labels": _LABELS},
        "data": {"train": "train.jsonl"},
        "model": str(model),
        "train": {
            "method": "qlora",
            "batch_size": 8,
            "max_steps": 3,
            "num_evaluations": 1,
            "num_checkpoints": 0,
            "max_length": WINDOW,
            "lr": 1e-3,
            **train,
        },
        "export": {"runtime": runtime},
    }
    file = folder / "tunewright.yaml"
    file.write_text(json.dumps(content), "utf-8")
    return parse_spec(file.read_text("utf-8"), file)


def make_rows(vocabulary: int, shared: int, *own: int) -> list[dict[str, Any]]:
    """Encoded examples with a shared prefix. Only the last two tokens of each are learnt.

    Args:
        vocabulary: the number of tokens in the vocabulary.
        shared: the length of the prefix.
        own: the length of each example after the prefix.
    """
    draw = random.Random(shared)
    prefix = draw.choices(range(3, vocabulary), k=shared)
    rows = []
    for length in own:
        ids = [*prefix, *draw.choices(range(3, vocabulary), k=length)]
        rows.append({"input_ids": ids, "labels": [-100] * (len(ids) - 2) + ids[-2:]})
    return rows
