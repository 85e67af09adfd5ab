"""Checks the header of a GGUF file against the file's length before a library reads it.

The `gguf` library trusts every count in the file. If one claims 2^60 values, the library reads for years, in growing
memory. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (2026-11-29).
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.models.files import require_file

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SIZES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""The struct format of each type of value, by its number in the format."""
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_ALIGNMENT, _WIDEST = 32, 1 << 16
_BLOCK = re.compile(r"blk\.(\d+)\.")
_AGAIN = "Copy the file again, from where it was made."
_EMBEDDING = "token_embd.weight"
_PRE_TOKENIZER = "tokenizer.ggml.pre"


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    """The innermost dimension first, as in the file."""
    kind: int
    offset: int


class _Cut(Exception):
    """The file ends too early, or its header is impossible."""


def check_gguf(path: Path) -> str | None:
    """Check a GGUF file before a library reads it.

    Returns: llama.cpp's name of the pre-tokenizer; None if the file names none.

    Raises:
        UserError: it is not a GGUF file, it ends too early, or its settings don't fit its tensors.
    """
    require_file(path)
    if path.stat().st_size == 0:
        raise _foreign(path, "It is empty.")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = _Reader(content)
        try:
            if reader.take(4) != _MAGIC or reader.number("<I") not in _VERSIONS:
                raise _Cut(f"It does not begin like version {_VERSIONS[0]} or {_VERSIONS[1]} of the format.")
            tensor_count, setting_count = reader.number("<Q"), reader.number("<Q")
            settings = dict(reader.settings(setting_count))
            tensors = dict(reader.tensors(tensor_count))
            reader.check_offsets(tensors, settings.get("general.alignment", _ALIGNMENT))
            _check_shape(settings, tensors)
            pre_tokenizer = settings.get(_PRE_TOKENIZER)
            return pre_tokenizer if isinstance(pre_tokenizer, str) else None
        except _Cut as error:
            raise _foreign(path, str(error)) from None


class _Reader:
    def __init__(self, content: mmap.mmap):
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        if count > len(self._content) - self._at:
            raise _Cut(f"By its header {count:,} bytes follow byte {self._at:,}; it ends at {len(self._content):,}.")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, form: str) -> int:
        value: int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return int(value) if isinstance(value, int) or math.isfinite(value) else 0

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def settings(self, count: int) -> Iterator[tuple[str, int | str | None]]:
        """(name, value) of each setting; the value of a list is None."""
        for _ in range(count):
            name, kind = self.text(), self.number("<I")
            yield name, self._value(name, kind)

    def _value(self, name: str, kind: int) -> int | str | None:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(self._form(name, kind))
        inner, count = self.number("<I"), self.number("<Q")
        if inner == _STRING:
            for _ in range(count):
                self.take(self.number("<Q"))
        else:
            self.take(count * struct.calcsize(self._form(name, inner)))
        return None

    @staticmethod
    def _form(name: str, kind: int) -> str:
        if kind not in _SIZES:
            raise _Cut(f"Its setting {name[:60]!r} has an unknown type ({kind}).")
        return _SIZES[kind]

    def tensors(self, count: int) -> Iterator[tuple[str, _Tensor]]:
        for _ in range(count):
            name, sides = self.text(), self.number("<I")
            if not 0 < sides <= _MOST_DIMENSIONS:
                raise _Cut(f"Its tensor {name[:60]!r} has {sides} dimensions.")
            shape = tuple(self.number("<Q") for _ in range(sides))
            yield name, _Tensor(shape, self.number("<I"), self.number("<Q"))

    def check_offsets(self, tensors: Mapping[str, _Tensor], alignment: int | str | None) -> None:
        """Check that each tensor lies within the file, after the header."""
        import gguf

        if not isinstance(alignment, int) or not 0 < alignment <= _WIDEST:
            raise _Cut(f"Its alignment is {alignment!r}.")
        start = -(-self._at // alignment) * alignment
        for name, tensor in tensors.items():
            try:
                block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
            except (ValueError, KeyError):
                raise _Cut(f"Its tensor {name[:60]!r} has an unknown type ({tensor.kind}).") from None
            end = start + tensor.offset + math.prod(tensor.shape) // block * size
            if math.prod(tensor.shape) % block or end > len(self._content):
                raise _Cut(
                    f"By its header the tensor {name[:60]!r} ends at byte {end:,}, the file at {len(self._content):,}."
                )


def _check_shape(settings: Mapping[str, int | str | None], tensors: Mapping[str, _Tensor]) -> None:
    """Check that the settings from which a model is built fit its tensors. An empty model could have any size."""
    kind = settings.get("general.architecture")
    if not isinstance(kind, str):
        raise _Cut("It does not name its architecture.")
    layers = {int(match[1]) for name in tensors if (match := _BLOCK.match(name))}
    block_count = settings.get(f"{kind}.block_count")
    complete = block_count == len(layers) and block_count == max(layers, default=-1) + 1
    if not isinstance(block_count, int) or not complete:
        raise _Cut(f"By its settings it has {block_count} layers, the tensors have {len(layers)}.")
    if _EMBEDDING not in tensors or len(tensors[_EMBEDDING].shape) != 2:
        raise _Cut(f"It has no matrix {_EMBEDDING}.")
    width, words = tensors[_EMBEDDING].shape
    if settings.get(f"{kind}.embedding_length") != width:
        raise _Cut(f"By its settings it is {settings.get(f'{kind}.embedding_length')} wide, its embedding {width}.")
    if (count := settings.get(f"{kind}.vocab_size", words)) != words:
        raise _Cut(f"By its settings it has {count} tokens, its embedding {words}.")
    inner = tensors.get("blk.0.ffn_down.weight")
    if inner and settings.get(f"{kind}.feed_forward_length") not in (None, inner.shape[0]):
        raise _Cut(
            f"By its settings {kind}.feed_forward_length is {settings[f'{kind}.feed_forward_length']}, in its "
            f"tensors {inner.shape[0]}."
        )


def _foreign(path: Path, why: str) -> UserError:
    return UserError("This is not a complete GGUF file.", where=path, why=why, fix=_AGAIN)
