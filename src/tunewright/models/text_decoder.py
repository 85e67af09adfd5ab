"""The text decoder of a model that also sees or hears, as a folder of its own.

Gemma 3 4B, Gemma 4 and Ministral 3 come with towers for images and sound. What Tunewright trains and serves reads text
only, so the decoder's tensors are copied once, byte by byte, and all later steps find an ordinary language model.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from tunewright.artifacts import sha256_json
from tunewright.errors import UserError
from tunewright.models.tensor_files import ALONE, INDEX
from tunewright.progress import say

_INSIDE = re.compile(r"(?:model\.)?language_model\.(?:model\.)?")
"""How the decoder's tensors are named beside the towers', in the older and the newer spelling."""
_LENGTH = 8
_BLOCK = 1 << 24
_COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
    "chat_template.jinja", "added_tokens.json",
)  # fmt: skip


def is_composite(folder: Path) -> bool:
    """Whether a model's folder holds more than a text decoder."""
    return "text_config" in json.loads((folder / "config.json").read_text("utf-8"))


def text_decoder(folder: Path, cache: Path) -> Path:
    """The folder of a model's text decoder: the model's own where it is nothing else, else one in the cache.

    Raises:
        UserError: the decoder's tensors are not where they are looked for.
    """
    if not is_composite(folder):
        return folder
    files = sorted(folder.glob("*.safetensors"))
    key = sha256_json([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])
    target = cache / f"{folder.name}-text-{key[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            say(f"  copying the text decoder out of {folder.name} (once)")
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                _write(folder, files, partial)
            except BaseException:
                shutil.rmtree(partial)
                raise
            partial.rename(target)
    return target


def decoder_name(name: str) -> str | None:
    """What a tensor of the whole is called in the decoder; None where it belongs to a tower."""
    if name == "lm_head.weight":
        return name
    found = _INSIDE.match(name)
    if not found:
        return None
    rest = name[found.end() :]
    return rest if rest.startswith("lm_head.") else f"model.{rest}"


def _write(folder: Path, files: list[Path], target: Path) -> None:
    names: dict[str, str] = {}
    for number, file in enumerate(files, 1):
        shard = ALONE if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        names |= dict.fromkeys(_copy_decoder(file, target / shard), shard)
    if "model.embed_tokens.weight" not in names:
        raise UserError(
            "No text decoder was found in this model.", where=folder,
            why="Its config.json has a text_config, but no tensor is named language_model.…embed_tokens.",
            fix="Choose a model that reads text: tunewright models ls",
        )  # fmt: skip
    if len(files) > 1:
        (target / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}), "utf-8")
    _config(folder, tied="lm_head.weight" not in names).save_pretrained(target)
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copy(folder / name, target / name)


def _config(folder: Path, *, tied: bool) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    whole = json.loads((folder / "config.json").read_text("utf-8"))
    text = {"eos_token_id": whole.get("eos_token_id"), **whole["text_config"]}
    config = AutoConfig.for_model(**{name: value for name, value in text.items() if value is not None})
    config.tie_word_embeddings = tied
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    return config


def _copy_decoder(source: Path, target: Path) -> list[str]:
    """Copy the decoder's tensors of a safetensors file; returns their names there."""
    with source.open("rb") as read, target.open("wb") as write:
        size = int.from_bytes(read.read(_LENGTH), "little")
        header = json.loads(read.read(size))
        header.pop("__metadata__", None)
        kept = {new: header[name] for name in header if (new := decoder_name(name))}
        start, layout = 0, {}
        for name, entry in kept.items():
            length = entry["data_offsets"][1] - entry["data_offsets"][0]
            layout[name] = {**entry, "data_offsets": [start, start + length]}
            start += length
        text = json.dumps({"__metadata__": {"format": "pt"}, **layout}).encode()
        text += b" " * (-len(text) % _LENGTH)
        write.write(len(text).to_bytes(_LENGTH, "little") + text)
        for entry in kept.values():
            first, last = entry["data_offsets"]
            read.seek(_LENGTH + size + first)
            _copy_bytes(read, write, last - first)
    return list(kept)


def _copy_bytes(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        block = source.read(min(count, _BLOCK))
        if not block:
            raise UserError("A weights file ends before its last tensor.", where=source.name, fix="Fetch it again.")
        target.write(block)
        count -= len(block)
