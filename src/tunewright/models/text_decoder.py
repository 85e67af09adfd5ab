"""Extracts the text decoder of a model that also sees or hears into its own folder.

Gemma 3 4B, Gemma 4 and Ministral 3 come with towers for images and sound. Tunewright trains and serves only text, so we
copy the decoder's tensors once, unchanged, and all later steps see an ordinary language model.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from tunewright.core.artifacts import sha256_file, sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.models.tensor_files import ALONE, INDEX, TensorWriter, Weights

HEAD = "lm_head.weight"
"""The decoder's output matrix, which a tied model need not have."""
_INSIDE = re.compile(r"(?:model\.)?language_model\.(?:model\.)?")
"""The prefix of the decoder's tensors beside the towers', in the older and the newer spelling."""
_CONFIG = "config.json"
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "added_tokens.json",
)


def is_composite(folder: Path) -> bool:
    """Whether a model's folder holds more than a text decoder."""
    return "text_config" in json.loads((folder / _CONFIG).read_text("utf-8"))


def text_decoder(folder: Path, cache: Path) -> Path:
    """The folder of a model's text decoder: the model's own folder if it is only a decoder, else one in the cache.

    Raises:
        UserError: a file of weights is missing or cut off, or the decoder's tensors have unexpected names.
    """
    if not is_composite(folder):
        return folder
    target = cache / f"{folder.name}-text-{_key(folder)[:12]}"
    if target.exists():  # so that a cache that can't be written to will do
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            say(f"  copying the text decoder out of {folder.name} (once)")
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                _write(folder, partial)
            except BaseException:
                shutil.rmtree(partial)
                raise
            partial.rename(target)
    return target


def _key(folder: Path) -> str:
    """A hash that changes when a model's folder gets other weights, another config or another tokenizer."""
    weights = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.glob("*.safetensors")]
    read = [(name, sha256_file(folder / name)) for name in (_CONFIG, *_COPIED) if (folder / name).is_file()]
    return sha256_json([str(folder.resolve()), sorted(weights), read])


def decoder_name(name: str) -> str | None:
    """The name of a tensor in the decoder; None if it belongs to a tower."""
    if name == HEAD:
        return name
    prefix = _INSIDE.match(name)
    if not prefix:
        return None
    rest = name[prefix.end() :]
    return rest if rest.startswith("lm_head.") else f"model.{rest}"


def _write(folder: Path, target: Path) -> None:
    files = Weights(folder).files
    weight_map: dict[str, str] = {}
    for number, file in enumerate(files, 1):
        shard = ALONE if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        writer = TensorWriter(target / shard, len(file))
        for name, tensor in file.items():
            if new := decoder_name(name):
                writer.write(new, tensor.raw, tensor.kind)
                weight_map[new] = shard
        writer.close()
    if "model.embed_tokens.weight" not in weight_map:
        raise UserError(
            "No text decoder was found in this model.",
            where=folder,
            why="Its config.json has a text_config, but no tensor is named language_model.…embed_tokens.",
            fix="Choose a model that reads text: tunewright models ls",
        )
    if len(files) > 1:
        (target / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")
    _config(folder, tied=HEAD not in weight_map).save_pretrained(target)
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copy(folder / name, target / name)


def _config(folder: Path, *, tied: bool) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    whole = json.loads((folder / _CONFIG).read_text("utf-8"))
    text = {"eos_token_id": whole.get("eos_token_id"), **whole["text_config"]}
    config = AutoConfig.for_model(**{name: value for name, value in text.items() if value is not None})
    config.tie_word_embeddings = tied
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    return config
