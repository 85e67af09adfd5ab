"""Read by Python as it starts: what would be a step, or the ONNX builder of one, becomes a fork of `parent.py`, and
this process waits for it."""

from __future__ import annotations

import os
import sys

ADDRESS = "TUNEWRIGHT_TESTS_PREPARED"
"""Environment variable: the socket at which the process listens, and what its environment is known by."""
_BUILDER = "tunewright.exporters.onnx_builder"
_SOCKET, _, _KNOWN = os.environ.get(ADDRESS, "").partition(" ")
_READ = (
    "HF_",
    "TRANSFORMERS_",
    "ACCELERATE_",
    "TORCH_",
    "BNB_",
    "CUDA_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "PYTHONPATH",
    "HOME",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
)
"""How the names in the environment begin that libraries read as they are imported."""


def surroundings(*, builder: bool = False) -> str:
    """What tells one environment from another, as far as libraries read it when they are imported.

    Args:
        builder: whether it is that of the ONNX builder.
    """
    from zlib import crc32

    read = {name: value for name, value in os.environ.items() if name.startswith(_READ)}
    read.pop("HF_HUB_DISABLE_TELEMETRY", None)  # every command sets it
    if builder:
        read.pop("HF_HUB_OFFLINE", None)  # the export sets it, and the model is there
    return str(crc32(repr(sorted(read.items())).encode()))


def _can_be_a_fork() -> bool:
    """Whether this is a step that the process which is prepared can do as well."""
    begun = sys.orig_argv[1:3] in (["-m", "tunewright.pipeline.step"], ["-m", _BUILDER])
    if not begun or not os.access(_SOCKET, os.W_OK):
        return False
    alone = os.getsid(0) != os.getsid(os.getppid())  # it may be killed with its session
    return not alone and surroundings(builder=sys.orig_argv[2] == _BUILDER) == _KNOWN


def _hand_over() -> None:
    """Ask for a fork, wait for its end, and end as it did. Signals are passed on."""
    import json
    import signal
    import socket

    folder = os.getcwd()  # noqa: PTH109 (pathlib is not imported yet)
    request = {
        "module": sys.orig_argv[2],
        "arguments": sys.orig_argv[3:],
        "folder": folder,
        "environment": dict(os.environ),
    }
    body, passed_on = json.dumps(request).encode(), (signal.SIGINT, signal.SIGTERM)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_SOCKET)
        socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(body)
        for number in passed_on:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
        reply = connection.recv(2)
    if not reply:
        os.write(2, b"The process that steps are forked from ended before this one did.\n")
        os._exit(1)
    code = int.from_bytes(reply, "big", signed=True)
    if code < 0:
        if -code in passed_on:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if _SOCKET and _can_be_a_fork():
    _hand_over()
