"""How many threads there are to use and how they wait: the one place that knows, for every numerical library.

A process may use the cores that its affinity names, and no more time than its control groups give it: a container with
a limit of two CPUs on a machine of 64 sees 64 cores, and 64 threads would stop each other most of the time.

A thread that waits for the others keeps its core for a while, in a loop, because waking up costs time. Beside other
processes that loop takes the core from the very thread that it waits for, so it has to be short.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SETTING = "OMP_NUM_THREADS"
"""The variable in which people, schedulers and `tunewright.core.launch` say how many."""
TURNS, POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"""The variables in which people say how long a thread of GNU's OpenMP, which torch brings, waits in a loop."""
_QUIET, _BUSY = "10000", "1000"
"""Turns of that loop on a quiet machine (some 0.3 ms) and beside others; the second is what libgomp itself takes if it
has more threads than cores. Its default of 300,000 lasts longer than the system lets a thread run beside others
(libgomp, Environment Variables). bench/neighbours.py measures these."""
_CROWDED = 20.0
"""Percent of the last ten seconds in which something had to wait for a core, from which on others count as busy."""


def threads() -> int:
    """Threads for numerical libraries: OMP_NUM_THREADS, else `cores`."""
    configured = os.environ.get(SETTING, "")
    if configured.isdecimal() and int(configured):
        return int(configured)
    return cores()


def limited() -> int | None:
    """The threads to set in a library that looks at the affinity alone; None: it finds the right number itself."""
    return cores() if cores() < _allowed() else None


def confine() -> None:
    """Tell libraries that are not loaded yet about a quota, and how to wait, in this process and in those that it
    starts. What the environment says already stays."""
    if count := limited():
        os.environ.setdefault(SETTING, str(count))
    if POLICY not in os.environ and os.environ.get(TURNS, _QUIET) in (_QUIET, _BUSY):  # else it was not set here
        os.environ[TURNS] = _BUSY if _is_crowded(Path("/proc/pressure/cpu")) else _QUIET


@cache
def cores() -> int:
    """The cores that this process may keep busy: those of its affinity, or the CPU quota of its control groups, rounded
    up, where that is less. At least one."""
    return max(1, min([_allowed(), *map(math.ceil, _quotas(Path("/proc/self")))]))


def _is_crowded(pressure: Path) -> bool:
    """Whether processes have to wait for cores. Unknown, and so no, where the system does not tell (Linux,
    Documentation/accounting/psi.rst)."""
    try:
        return float(pressure.read_text().partition("avg10=")[2].split()[0]) > _CROWDED
    except (OSError, ValueError, IndexError):
        return False


def _allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(process: Path) -> Iterator[float]:
    """The cores' worth of time that each control group around a process gives it, in version 1 or 2 of the interface
    (Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst).

    Args:
        process: its folder in /proc.
    """
    try:
        groups, mounts = (
            (process / name).read_text(errors="surrogateescape").splitlines() for name in ("cgroup", "mountinfo")
        )
    except OSError:  # not Linux
        return
    for line in mounts:
        before, _, after = line.partition(" - ")
        root, place = before.split(" ")[3:5]
        kind, *_, options = after.split(" ")
        for group in groups:
            number, controllers, path = group.split(":", 2)
            is_second = kind == "cgroup2" and number == "0" and not controllers
            is_first = kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(",")
            if is_first or is_second:
                yield from _along(Path(place), path.removeprefix(root.rstrip("/")), is_second=is_second)


def _along(mount: Path, path: str, *, is_second: bool) -> Iterator[float]:
    """The quotas of a group and of all around it, as far as this process sees them."""
    folder = mount / path.strip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(mount):
            return
        try:
            if is_second:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{each}_us").read_text().strip() for each in ("quota", "period"))
            if quota.isdecimal():  # else "max", or -1: none
                yield int(quota) / int(period)
        except (OSError, ValueError):  # the root group of version 2 has no such file
            continue
