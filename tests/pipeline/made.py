"""Projects on models of true size without weights: only their config.json."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import TOKENIZER
from tunewright.models.catalogue import catalogue
from tunewright.models.sizes import Sizes


def model_folder(name: str, folder: Path) -> Path:
    """A folder with a catalogue model's config and some tokenizer."""
    shape = catalogue()[name].shape
    assert shape
    folder.mkdir(parents=True, exist_ok=True)
    shape.config().save_pretrained(folder)
    (folder / "tokenizer.json").write_text((TOKENIZER / "tokenizer.json").read_text("utf-8"), "utf-8")
    return folder


def sizes(name: str) -> Sizes:
    shape = catalogue()[name].shape
    assert shape
    return Sizes.of(shape)


def encoder_folder(folder: Path, layers: int = 2) -> Path:
    """A folder with a small BERT's config and a tokenizer of words, without weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "vocab_size": 1000,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder
