"""The library that the C sources are compiled to: whether it fits this processor, and its functions.

It is compiled where the package is built or installed (`compile.py`), never where it is used. Without it, or on another
processor, OpenVINO runs the same weights.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_void_p
from typing import Any

import numpy.typing as npt

from tunewright.core.processes import cpu_flags
from tunewright.inference.runtimes.vnni.compile import FEATURES, LIBRARY, source_hash

_NEEDED = frozenset(name.replace("avx512vnni", "avx512_vnni") for name in FEATURES)
"""As Linux names them."""
TOKENS, MOST_WIDTH, LANES, PANEL = 64, 128, 16, 48
"""Tokens of a block of memory; the widest head; what the sides of matrices must be multiples of; outputs of a matrix
that are computed together. `decoder.c` has them too."""
KINDS = ("matrices", "attention", "between", "waiting")
"""What `network_spent` counts."""


class KernelShape(ctypes.Structure):
    """`Shape` in `decoder.c`."""

    _fields_ = (
        *(
            (name, c_int)
            for name in ("layers", "hidden", "heads", "key_heads", "width", "inner", "vocabulary", "group")
        ),
        *((name, c_float) for name in ("epsilon", "scale", "rotary_scale")),
    )


class MatrixPiece(ctypes.Structure):
    """`MatrixPiece` in `decoder.c`."""

    _fields_ = (
        *((name, c_int) for name in ("layer", "kind", "at", "outputs")),
        *((name, c_void_p) for name in ("levels", "scale", "zero", "bias")),
    )


class Pass(ctypes.Structure):
    """`Pass` in `decoder.c`."""

    _fields_ = (
        *((name, c_int) for name in ("tokens", "sequences", "wanted", "panel_count")),
        *(
            (name, c_void_p)
            for name in (
                "ids",
                "positions",
                "past",
                "begins",
                "blocks",
                "block_begins",
                "wanted_at",
                "adapters",
                "panels",
                "logits",
            )
        ),
    )


class Thin(ctypes.Structure):
    """`Thin` in `decoder.c`."""

    _fields_ = (("down", c_void_p), ("up", c_void_p))


class KernelAdapter(ctypes.Structure):
    """`Adapter` in `decoder.c`."""

    _fields_ = (("rank", c_int), ("matrices", POINTER(Thin)))


class KernelEncoderShape(ctypes.Structure):
    """`Shape` in `encoder.c`."""

    _fields_ = (
        *(
            (name, c_int)
            for name in ("layers", "hidden", "heads", "width", "inner", "labels", "group", "reads", "padding")
        ),
        *((name, c_float) for name in ("epsilon", "scale")),
    )


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "model_new": (c_void_p, [POINTER(KernelShape), *[c_void_p] * 5]),
    "model_layer": (None, [c_void_p, c_int, c_int, *[c_void_p] * 4]),
    "model_pack": (None, [c_void_p, POINTER(MatrixPiece), c_int, POINTER(c_int)]),
    "model_free": (None, [c_void_p]),
    "network_new": (c_void_p, [c_void_p, *[c_int] * 4]),
    "network_forward": (None, [c_void_p, POINTER(Pass)]),
    "network_copy": (None, [c_void_p, c_int, c_int]),
    "network_block": (c_void_p, [c_void_p, c_int]),
    "network_spent": (None, [c_void_p, POINTER(c_double)]),
    "network_free": (None, [c_void_p]),
    "encoder_new": (c_void_p, [POINTER(KernelEncoderShape), *[c_void_p] * 5]),
    "encoder_layer": (None, [c_void_p, c_int, *[c_void_p] * 4]),
    "encoder_pack": (None, [c_void_p, *[c_int] * 4, *[c_void_p] * 4]),
    "encoder_forward": (None, [*[c_void_p] * 2, c_int, *[c_void_p] * 3, c_int]),
    "encoder_begin": (None, [c_void_p]),
    "encoder_end": (None, [c_void_p]),
    "encoder_help": (None, [c_void_p] * 3),
    "encoder_wanted": (None, [c_void_p, c_int]),
    "encoder_free": (None, [c_void_p]),
    "buffers_new": (c_void_p, [c_void_p, c_int, c_int]),
    "buffers_free": (None, [c_void_p]),
    "source_hash": (c_char_p, []),
    "with_amx": (c_int, []),
}


@functools.cache
def reason_against() -> str | None:
    """Why OpenVINO runs models in int8 here; None: the kernels do, those that they know."""
    if missing := _NEEDED - cpu_flags():
        return f"this processor has no {', '.join(sorted(missing))}"
    again = f"type: python {LIBRARY.with_name('compile.py')}"
    if not LIBRARY.is_file():
        return f"they were not compiled when Tunewright was installed; {again}"
    try:
        current = library().source_hash().decode() == source_hash()
    except (OSError, AttributeError) as error:
        return f"{LIBRARY} can't be loaded: {error}"
    return None if current else f"{LIBRARY} is older than its source; {again}"


def kernels_say() -> str:
    """Whose kernels run models in int8 here, for people."""
    if against := reason_against():
        return f"OpenVINO's: {against}"
    return f"our own,{' with AMX,' if library().with_amx() else ''} for decoders and BERT's kind in int8"


@functools.cache
def library() -> ctypes.CDLL:
    """The library. Its functions don't hold Python's lock while they run."""
    found = ctypes.CDLL(str(LIBRARY))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


def address(array: npt.NDArray[Any] | None) -> int | None:
    """Where an array's numbers are, for the kernels; None stays None."""
    return None if array is None else array.ctypes.data


def free_in(process: int, free: Callable[[int], None], what: int, _: object) -> None:
    """Free what the kernels have made, after what it points at has been kept for it. A forked process has none of its
    threads.

    Args:
        process: the one that it was made in.
    """
    if os.getpid() == process:
        free(what)
