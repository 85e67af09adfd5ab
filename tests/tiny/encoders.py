"""Tiny random encoders of every architecture, each a folder with a real tokenizer, as a hub's are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tunewright.exporters.encoders import graph_of, write_graph
from tunewright.exporters.quantisation import Loss
from tunewright.models.encoders import LocalEncoder

WINDOW = 64
"""Tokens that each of them reads, unless a test asks for more."""
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclass(frozen=True)
class Family:
    """What makes an architecture another one than BERT."""

    config: str
    """transformers' name of its config."""
    special: Sequence[str] = _BERT
    """The first tokens of its vocabulary."""
    left_out: int = 0
    """Positions before the first token."""
    settings: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "bert": Family("BertConfig"),
    "camembert": Family("CamembertConfig", _ROBERTA, 2),
    "deberta-v2": Family(
        "DebertaV2Config",
        settings={
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "max_relative_positions": -1,
            "type_vocab_size": 0,
        },
    ),
    "distilbert": Family("DistilBertConfig", settings={"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}),
    "electra": Family("ElectraConfig", settings={"embedding_size": 32}),
    "modernbert": Family(
        "ModernBertConfig",
        settings={
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "mpnet": Family("MPNetConfig", _ROBERTA, 2),
    "roberta": Family("RobertaConfig", _ROBERTA, 2, {"type_vocab_size": 1}),
    "xlm-roberta": Family("XLMRobertaConfig", _ROBERTA, 2, {"type_vocab_size": 1}),
}


@cache
def _onnx(folder: Path) -> Any:
    return graph_of(folder, "onnxruntime-encoder")


def build(folder: Path, target: Path, runtime: str, precision: str) -> Loss:
    """What `build_encoder` does, but that torch exports a folder's encoder to ONNX once for both precisions: that takes
    seconds."""
    graph = _onnx(folder) if runtime == "onnxruntime-encoder" else graph_of(folder, runtime)
    return write_graph(graph, target, runtime, precision)


def write_encoder(family: str, folder: Path, window: int = WINDOW) -> Path:
    """Write two random layers of an architecture, and a tokenizer with a token for each byte.

    Args:
        window: tokens that it reads.
    """
    import torch
    import transformers

    made = FAMILIES[family]
    size = write_tokenizer(folder, made.special)
    marks = {"pad_token_id": made.special.index("<pad>" if "<pad>" in made.special else "[PAD]")}
    if made.special is _ROBERTA:
        marks |= {"bos_token_id": 0, "eos_token_id": 2}
    config = getattr(transformers, made.config)(
        **{
            "vocab_size": size,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": window + made.left_out,
            **marks,
            **made.settings,
        }
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).float()
    for name, parameter in model.named_parameters():
        # As trained ones they are neither zeros nor ones, so that no test passes that leaves them out.
        if parameter.ndim == 1:
            parameter.data += torch.empty_like(parameter).uniform_(-0.3, 0.3)
        else:
            parameter.data *= 1.0 if "embed" in name and "position" not in name else 5.0
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, special: Sequence[str]) -> int:
    """Write a tokenizer that frames a text with two of its marks; returns how many tokens it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first, last, padding = ("<s>", "</s>", "<pad>") if "<s>" in special else ("[CLS]", "[SEP]", "[PAD]")
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(mark, words.index(mark)) for mark in (first, last)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": padding, "cls_token": first, "sep_token": last}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), "utf-8")
    return len(words)


def with_pooling(folder: Path, pooling: str) -> Path:
    """Say as sentence-transformers does how tokens become one vector: "mean" or "cls"."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    said = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said), "utf-8")
    return folder


def local(folder: Path) -> LocalEncoder:
    from tunewright.models.encoders import read_encoder

    return read_encoder(str(folder), folder)
