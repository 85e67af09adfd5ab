"""Converts a GGUF file to a Hugging Face folder with dense safetensors weights."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tunewright.core.progress import quiet_libraries, say
from tunewright.models.files import loading
from tunewright.models.gguf_header import check_gguf


def gguf_to_folder(gguf: Path, folder: Path, *, digits_pretokenizer: bool) -> Path:
    """Convert once. `folder` is complete or absent.

    Args:
        digits_pretokenizer: restore the `Digits` pre-tokenizer, which transformers' GGUF reader drops. Without it,
            numbers are cut into other tokens than the model was trained on.

    Raises:
        UserError: the file can't be read as GGUF.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        say(f"  converting {gguf.name} to safetensors (once)")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(gguf, partial, digits_pretokenizer)
        partial.rename(folder)
    return folder


def _convert(gguf: Path, folder: Path, digits_pretokenizer: bool) -> None:
    quiet_libraries()
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    check_gguf(gguf)
    with loading(gguf, "The GGUF file"), _parsed_once():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    if digits_pretokenizer:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    # The loader leaves its quantizer on the dense model, and save_pretrained refuses such a model.
    model.hf_quantizer = None
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
