"""Safetensors files without torch: read by memory mapping, written tensor by tensor.

A tensor is a view of the mapped file. The operating system takes its pages back when memory is short, so a model of any
size can be processed as long as the code holds one matrix at a time. The format: 8 bytes with the header's length, the
header as JSON, then the tensors' bytes (https://github.com/huggingface/safetensors, 2026-11-27).
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.models.files import read_object, require_file

INDEX, ALONE = "model.safetensors.index.json", "model.safetensors"
"""transformers looks for a file with any other name only if an index names it."""
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
_MOST_SIDES = 32
"""Dimensions of a tensor. Before version 2, numpy had the same limit."""
_SHOWN = 100
"""Characters of a tensor's name in a message."""
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""The numpy type of each type. numpy has no bfloat16, whose 16 bits are the upper half of a float32."""
_NAMES = {np.dtype(kind).str: name for name, kind in _DTYPES.items() if name != "BF16"}
_AGAIN = "Copy the model again; a killed copy or download leaves incomplete files."
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file."""

    name: str
    kind: str
    """Its type as the format names it, such as "BF16"."""
    raw: npt.NDArray[Any]
    """A view of the file; bfloat16 as uint16."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    def float32(self, rows: slice | npt.NDArray[np.intp] | EllipsisType = ...) -> npt.NDArray[np.float32]:
        """Its values, or those of some rows, as float32. They are a copy unless the file has float32."""
        part = self.raw[rows]
        if self.kind == "BF16":
            return (part.astype(np.uint32) << 16).view(np.float32)
        return part.astype(np.float32, copy=False)


class TensorFile(Mapping[str, Tensor]):
    """The tensors of one file.

    Raises:
        UserError: the file is cut off, or has another format.
    """

    def __init__(self, path: Path):
        self.path = path
        if path.exists():
            require_file(path)
        try:
            with path.open("rb") as stream:
                self._entries, start = _header(path, stream)
                # OpenVINO accepts only writable arrays. Nobody writes to them, and a write would change only a copy.
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise UserError("A file of weights can't be read.", where=path, why=str(error), fix=_AGAIN) from None
        self._start = start
        self._check()

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        kind, sides = entry["dtype"], entry["shape"]
        dtype, first = np.dtype(_DTYPES[kind]), self._start + entry["data_offsets"][0]
        flat = np.frombuffer(self._map, dtype, count=int(np.prod(sides, dtype=np.int64)), offset=first)
        return Tensor(name, kind, flat.reshape(sides))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def let_go(self) -> None:
        """Drop its pages from this process's memory. Pages that are used again are mapped again."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _check(self) -> None:
        """Check that every tensor lies within the file and has the bytes that its shape needs."""
        available = len(self._map) - self._start
        for name, entry in self._entries.items():
            try:
                begin, end, size = _placed(entry)
            except (KeyError, TypeError, ValueError):
                raise _foreign(self.path, f"Its header's entry for {name[:_SHOWN]} can't be read.") from None
            if begin > end or end - begin != size:
                raise _foreign(self.path, f"The bytes that its header gives {name[:_SHOWN]} don't fit its shape.")
            if end > available:
                raise UserError(
                    "A file of weights is cut.",
                    where=self.path,
                    why=f"Its tensors end at byte {self._start + end:,}, the file at {self._start + available:,}.",
                    fix=_AGAIN,
                )


def _placed(entry: dict[str, Any]) -> tuple[int, int, int]:
    """(a tensor's first byte, the one after its last, the bytes that its shape needs).

    Raises:
        KeyError, TypeError, ValueError: the header's entry is invalid.
    """
    places, sides = list(entry["data_offsets"]), list(entry["shape"])
    if len(sides) > _MOST_SIDES or not all(type(each) is int and each >= 0 for each in (*places, *sides)):
        raise ValueError
    begin, end = places
    return begin, end, math.prod(sides) * np.dtype(_DTYPES[entry["dtype"]]).itemsize


def _header(path: Path, stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """(each tensor's entry, the byte where the tensors begin)."""
    first = stream.read(_LENGTH.size)
    if len(first) < _LENGTH.size:
        raise UserError("A file of weights is cut.", where=path, why=f"It has {len(first)} bytes.", fix=_AGAIN)
    (length,) = _LENGTH.unpack(first)
    if length > _LONGEST_HEADER:
        raise _foreign(path, f"Its header would have {length:,} bytes.")
    try:
        entries = json.loads(stream.read(length))
    except (ValueError, RecursionError):
        raise _foreign(path, "Its header is not JSON.") from None
    if not isinstance(entries, dict):
        raise _foreign(path, "Its header is not a JSON object.")
    entries.pop("__metadata__", None)
    return entries, _LENGTH.size + length


def _foreign(path: Path, why: str) -> UserError:
    return UserError("This is not a complete safetensors file.", where=path, why=why, fix=_AGAIN)


class Weights(Mapping[str, Tensor]):
    """The tensors of a Hugging Face folder, in one file or in shards.

    Raises:
        UserError: a shard is missing or cut off, the index and the shards disagree, or there are no weights.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        placed = _index(folder)
        paths = [folder / name for name in dict.fromkeys(placed.values())] if placed else _alone(folder)
        if missing := [path.name for path in paths if not path.is_file()]:
            raise UserError(
                f"{len(missing)} of the model's {len(paths)} files of weights are missing: {', '.join(missing[:3])}"
                f"{' and others' if len(missing) > 3 else ''}.",
                where=folder,
                why=f"{INDEX} names them.",
                fix=_AGAIN,
            )
        self.files = [TensorFile(path) for path in paths]
        self._file = {name: file for file in self.files for name in file}
        for name, path in placed.items():
            if name not in self._file or self._file[name].path.name != path:
                raise UserError(
                    "The model's index and its files of weights disagree.",
                    where=folder / INDEX,
                    why=f"It says that {name} is in {path}, and it is not.",
                    fix=_AGAIN,
                )

    def __getitem__(self, name: str) -> Tensor:
        return self._file[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def _index(folder: Path) -> dict[str, str]:
    """The file of each tensor; empty if there is no index."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        placed = read_object(path)["weight_map"]
        if not all(isinstance(name, str) and Path(name).name == name and len(name) < 128 for name in placed.values()):
            raise ValueError("a name that is not a file of this folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("The model's index can't be read.", where=path, why=str(error), fix=_AGAIN) from None
    return dict(placed)


def _alone(folder: Path) -> list[Path]:
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise UserError("This folder has no safetensors weights.", where=folder, fix=_AGAIN)


def stored_bytes(folder: Path) -> int:
    """Size of all files of weights in a folder. This reads none of them."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def kind_of(array: npt.NDArray[Any]) -> str:
    """The format's name of an array's type."""
    return _NAMES[array.dtype.str]


class TensorWriter:
    """Writes one file, tensor by tensor. A tensor may come in parts of some rows each. The header is written last.

    The writer reserves space for the header, which may end in spaces. Until `close` the file is not a safetensors file,
    so that the remains of a killed process can't pass for a complete one.

    Args:
        tensors: maximum number of tensors.
    """

    _ENTRY_BYTES = 400
    """Bytes of the header for a tensor: its name, type, shape and place."""

    def __init__(self, path: Path, tensors: int):
        self._stream = path.open("xb")
        # Mapped tensors should begin at a cache line.
        self._header_bytes = -(-(tensors + 1) * self._ENTRY_BYTES // 64) * 64 - _LENGTH.size
        self._stream.seek(_LENGTH.size + self._header_bytes)
        self._entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._end = 0

    def write(self, name: str, parts: Iterator[npt.NDArray[Any]] | npt.NDArray[Any], kind: str = "") -> None:
        """Write a tensor.

        Args:
            parts: the whole tensor, or its rows in order.
            kind: its type, if the arrays have another: "BF16" comes as uint16.
        """
        begin, shape = self._end, list[int]()
        for part in [parts] if isinstance(parts, np.ndarray) else parts:
            whole = np.ascontiguousarray(part)
            self._stream.write(whole.reshape(-1).view(np.uint8).data)
            self._end += whole.nbytes
            kind = kind or kind_of(whole)
            shape = [shape[0] + len(whole), *shape[1:]] if shape else list(part.shape)
        self._entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, self._end]}

    def close(self) -> None:
        """Write the header, which completes the file."""
        header = json.dumps(self._entries, separators=(",", ":")).encode().ljust(self._header_bytes)
        assert len(header) == self._header_bytes, "more tensors, or longer names, than the header has space for"
        self._stream.seek(0)
        self._stream.write(_LENGTH.pack(len(header)) + header)
        self._stream.close()
