"""Child processes that end with their parent, folders that only one process writes, and what they run on."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunewright.core.errors import UserError

_PR_SET_PDEATHSIG = 1
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Devices of NVIDIA's driver, of AMD's, and of Windows' for Linux."""
SHARES = "TUNEWRIGHT_SHARES"
"""Environment variable: how many processes share the batches of a step; see `tunewright.core.launch`."""


def end_with_parent() -> None:
    """Ask the kernel to stop this process when its parent dies, even by kill -9 (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def machine_memory() -> int:
    """Bytes of main memory that this process may have: the machine's, or of a container what it is limited to."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(whole, memory_limit() or whole)


def memory_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least limit of this process's control groups, in bytes; None where there is none.

    Both versions of control groups are looked at. Source: the kernel's admin-guide/cgroup-v2.rst and
    admin-guide/cgroup-v1/memory.rst (2026-11-27).

    Args:
        groups: where they are mounted.
        own: what says which ones this process is in.
    """
    try:
        lines = own.read_text("ascii").splitlines()
    except OSError:
        return None
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if "memory" in controllers.split(","):
            root, file = groups / "memory", "memory.limit_in_bytes"
        elif not controllers:
            root, file = groups, "memory.max"
        else:
            continue
        inside = root / path.lstrip("/")
        # Within a container its own path may not be mounted: then the root is its group.
        for folder in (inside, *inside.parents):
            found += _limit(folder / file)
            if folder == root:
                break
    return min(found, default=None)


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text("ascii").strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() else []


def has_gpu() -> bool:
    """Whether this machine has a GPU's driver; without waiting for torch."""
    return any(Path(device).exists() for device in _GPUS)


def cpu_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words, such as avx512_bf16; empty where that can't be told."""
    return frozenset(_in_cpuinfo("flags").split())


def processor() -> str:
    """What the processor is called; its architecture, where that can't be told. Where a cloud hides the number of the
    model, as in "AMD EPYC", family and model tell one generation from another."""
    name = _in_cpuinfo("model name")
    if name and not any(sign.isdigit() for sign in name):
        name += f" (family {_in_cpuinfo('cpu family')}, model {_in_cpuinfo('model')})"
    return name or platform.machine()


def processor_vendor() -> str:
    """Such as GenuineIntel or AuthenticAMD; empty where the system does not say."""
    return _in_cpuinfo("vendor_id")


def _in_cpuinfo(field: str) -> str:
    """What Linux says of the first processor; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == field), "")


def oom_kills() -> int:
    """Processes that the kernel has ended for want of memory, of the machine or of a container, since it started."""
    try:
        counted = dict(line.split() for line in Path("/proc/vmstat").read_text("ascii").splitlines())
    except OSError:
        return 0
    return int(counted.get("oom_kill", 0))


def is_leader() -> bool:
    """Whether this is the only process of a step, or the first of those that accelerate or torchrun started for it."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes work on a step together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share() -> tuple[int, int]:
    """Which share of each batch is this process's, and of how many; of one, where its batches are its own."""
    count = int(os.environ.get(SHARES, "1"))
    return (int(os.environ["RANK"]), count) if count > 1 else (0, 1)


def threads() -> int:
    """Threads that numerical libraries may use: what OMP_NUM_THREADS says, else all cores this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener(host: str, port: int) -> socket.socket:
    """A socket that a server can listen with, bound to an address.

    Args:
        port: 0 takes any free one.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer waits 40 ms for an ACK.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        raise UserError(
            f"The server can't listen on {host}:{port}: {os.strerror(error.errno or 0)}.",
            fix="Stop what uses the port, or choose another with --port (0 takes any free one).",
        ) from None
    return bound


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; the kernel lets go when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "Another Tunewright process is at work in this folder.",
                where=folder,
                fix="Wait for it to end, or give this one another folder with --runs.",
            ) from None
        yield
    finally:
        os.close(descriptor)
