"""Converts a GGUF file to a Hugging Face folder with dense safetensors weights."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tunewright.core.progress import quiet_libraries, say
from tunewright.models.files import loading
from tunewright.models.gguf_header import check_gguf

if TYPE_CHECKING:
    from tokenizers import Tokenizer


CONVERSION = 2
"""The version of the conversion. An earlier one lost the digits' pre-tokenizer of files that people named."""
_BY_DIGIT = frozenset({"codeshell", "command-r", "exaone", "refact", "smollm", "starcoder"})
"""Pre-tokenizers that cut numbers into digits, and all else as GPT-2's does, by llama.cpp's names (src/llama-vocab.cpp,
2026-12-01). transformers knows none of them."""
_AS_GPT2 = frozenset({None, "default", "gpt-2"})
"""Pre-tokenizers for which transformers' default, GPT-2's, is right. Older files name none."""


def gguf_to_folder(gguf: Path, folder: Path) -> Path:
    """Convert once. `folder` is complete or absent.

    Raises:
        UserError: the file can't be read as GGUF.
    """
    if folder.exists():  # so that a cache that can't be written to will do
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        say(f"  converting {gguf.name} to safetensors (once)")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(gguf, partial)
        partial.rename(folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    pre_tokenizer = check_gguf(gguf)
    with loading(gguf, "The GGUF file"), _parsed_once():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    restore_pre_tokenizer(tokenizer.backend_tokenizer, pre_tokenizer, gguf.name)
    # The loader leaves its quantizer on the dense model, and save_pretrained refuses such a model.
    model.hf_quantizer = None
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def restore_pre_tokenizer(tokenizer: Tokenizer, name: str | None, file: str) -> None:
    """Cut numbers into digits if the model was trained so, where transformers' GGUF reader cuts them like GPT-2; say so
    if the reader does not know how the model's texts were cut.

    Args:
        name: llama.cpp's name of the pre-tokenizer.
        file: the file's name, for the note.
    """
    from tokenizers import pre_tokenizers

    if name in _BY_DIGIT:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif name not in _AS_GPT2 and not _is_known_to_transformers(name):
        say(
            f"  note: {file} names the pre-tokenizer '{str(name)[:40]}', which transformers does not know. It cuts "
            "texts like GPT-2's, so the model may get other tokens than in its training. If you have the model's "
            "folder with its own tokenizer.json, name that."
        )


def _is_known_to_transformers(name: str | None) -> bool:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # its table stands elsewhere in another version
        return True
    return name in GGUF_PRE_TOKENIZER_SPLITS


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Parse a GGUF file only once inside.

    transformers parses it for the tokenizer, for the config and for the weights, and lists all possible tensor names
    for each module. That was 8.3 of the 17.7 seconds for SmolLM2 (transformers 5.24, gguf 0.19).
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    originals = {name: getattr(gguf, name) for name in names}
    for name, original in originals.items():
        setattr(gguf, name, functools.cache(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)
