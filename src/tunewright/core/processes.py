"""Child processes that end with their parent, locks on folders, sockets, and facts about this machine."""

from __future__ import annotations

import ctypes
import fcntl
import getpass
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
"""Device files of NVIDIA's driver, of AMD's, and of the Windows Subsystem for Linux."""
SHARES = "TUNEWRIGHT_SHARES"
"""Environment variable: how many processes share the batches of a step; see `tunewright.core.launch`."""


def end_with_parent() -> None:
    """Ask the kernel to stop this process when its parent dies, even by kill -9. Only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def whoami() -> str:
    """The name of the person who types a command; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def machine_memory() -> int:
    """Bytes of main memory for this process: the machine's, or the container's limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(whole, memory_limit() or whole)


def memory_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The lowest limit of this process's control groups, in bytes; None if there is no limit.

    It reads both versions of control groups. Source: the kernel's admin-guide/cgroup-v2.rst and
    admin-guide/cgroup-v1/memory.rst (2026-11-27).

    Args:
        groups: the mount point of the control groups.
        own: the file that lists this process's groups.
    """
    try:
        lines = own.read_text("ascii").splitlines()
    except OSError:
        return None
    limits = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if "memory" in controllers.split(","):
            root, file = groups / "memory", "memory.limit_in_bytes"
        elif not controllers:
            root, file = groups, "memory.max"
        else:
            continue
        inside = root / path.lstrip("/")
        # A container may not see its own path; then the root is its group.
        for folder in (inside, *inside.parents):
            limits += _limit(folder / file)
            if folder == root:
                break
    return min(limits, default=None)


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text("ascii").strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() else []


def has_gpu() -> bool:
    """Whether this machine has a GPU driver, checked without importing torch."""
    return any(Path(device).exists() for device in _GPUS)


def cpu_flags() -> frozenset[str]:
    """The processor's features by their Linux names, such as avx512_bf16; empty if unknown."""
    return frozenset(_in_cpuinfo("flags").split())


def processor() -> str:
    """The processor's name, or its architecture if the name is unknown. If a cloud hides the model number, as in
    "AMD EPYC", family and model identify the generation."""
    name = _in_cpuinfo("model name")
    if name and not any(sign.isdigit() for sign in name):
        name += f" (family {_in_cpuinfo('cpu family')}, model {_in_cpuinfo('model')})"
    return name or platform.machine()


def processor_vendor() -> str:
    """The processor's vendor, such as GenuineIntel or AuthenticAMD; empty if unknown."""
    return _in_cpuinfo("vendor_id")


def _in_cpuinfo(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty if it is missing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == field), "")


def oom_kills() -> int:
    """How many processes the kernel has killed since it started because the machine or a container ran out of
    memory."""
    try:
        counted = dict(line.split() for line in Path("/proc/vmstat").read_text("ascii").splitlines())
    except OSError:
        return 0
    return int(counted.get("oom_kill", 0))


def is_leader() -> bool:
    """Whether this is the only process of a step, or the first of those that accelerate or torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes run a step together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share() -> tuple[int, int]:
    """(this process's share of each batch, the number of shares); (0, 1) if the batches are not divided."""
    count = int(os.environ.get(SHARES, "1"))
    return (int(os.environ["RANK"]), count) if count > 1 else (0, 1)


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener(host: str, port: int) -> socket.socket:
    """A server's socket, bound to an address.

    Args:
        port: 0 takes any free port.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    # asyncio sets TCP_NODELAY only if the protocol is explicit; without it every answer waits 40 ms for an ACK.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        raise UserError(
            f"The server can't listen on {host}:{port}: {os.strerror(error.errno or 0)}.",
            fix="Stop the program that uses the port, or choose another with --port (0 takes any free one).",
        ) from None
    return bound


@contextmanager
def sole_writer(folder: Path, otherwise: str = "work in another folder") -> Iterator[None]:
    """Lock a folder for this process. The kernel releases the lock when the process ends, however it ends.

    Args:
        otherwise: what the user can do instead of waiting.

    Raises:
        UserError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "Another Tunewright process works in this folder.",
                where=folder,
                fix=f"Wait for it to end, or {otherwise}.",
            ) from None
        yield
    finally:
        os.close(descriptor)
