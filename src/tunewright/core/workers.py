"""Apply a function to every part of the data, on this machine's cores or on a Ray cluster, in the parts' order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from tunewright.core.errors import UserError
from tunewright.core.processes import end_with_parent
from tunewright.core.threads import cores

CLUSTER = "RAY_ADDRESS"
"""Ray's own variable: the cluster's address, or "local" for a cluster on this machine."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Workers:
    """The workers that parts of some work can have, on this machine or on the cluster."""

    count: int
    cores: int
    """Of each."""


def workers_of(most: int) -> Workers:
    """As many workers as there are cores for, each with the most cores up to `most` that leave none over. On a cluster
    the smallest machine decides, because Ray never starts a call that no machine has the cores for.

    Raises:
        UserError: RAY_ADDRESS is set, and Ray is not installed.
    """
    machines = [cores()]
    if os.environ.get(CLUSTER):
        machines = [int(node["Resources"].get("CPU", 0)) for node in _ray().nodes() if node["Alive"]]
    smallest = min((each for each in machines if each), default=1)
    each = next(size for size in range(min(most, smallest), 0, -1) if smallest % size == 0)
    return Workers(max(1, sum(count // each for count in machines)), each)


def each(
    function: Callable[..., _Result],
    parts: Sequence[tuple[Any, ...]],
    *,
    small: bool = False,
    cpus: int = 1,
    gpus: int = 0,
) -> Iterator[_Result]:
    """`function(*part)` for each part.

    If RAY_ADDRESS is set, the parts run on that cluster, whose machines must see the same files under the same paths.

    Args:
        small: the work takes less time than starting processes, so it runs in this process.
        cpus: CPU cores that a part uses.
        gpus: GPUs that a part needs on a cluster.

    Raises:
        UserError: RAY_ADDRESS is set, and Ray is not installed.
    """
    if os.environ.get(CLUSTER):
        yield from _on_ray(function, parts, cpus, gpus)
    elif small or len(parts) == 1 or cores() == 1:
        yield from (function(*part) for part in parts)
    else:
        yield from _on_cores(function, parts, max(1, cores() // cpus))


def _on_cores(function: Callable[..., _Result], parts: Sequence[tuple[Any, ...]], most: int) -> Iterator[_Result]:
    # Spawned, not forked: the parent may hold threads of numerical libraries.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(most, len(parts)), context, initializer=_begin) as pool:
        futures = [pool.submit(function, *part) for part in parts]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "A worker process was killed.",
                why="The most frequent cause is that memory ran out.",
                fix="Free some memory, then type the same command again.",
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()  # after Ctrl-C nothing waits for the remaining parts


def _begin() -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes; the parent handles it."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_ray(
    function: Callable[..., _Result], parts: Sequence[tuple[Any, ...]], cpus: int, gpus: int
) -> Iterator[_Result]:
    ray = _ray()
    try:
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(function)
        yield from (ray.get(reference) for reference in [remote.remote(*part) for part in parts])
    finally:
        ray.shutdown()


def _ray() -> Any:
    """Ray, connected to its cluster."""
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            f"{CLUSTER} is set, but Ray is not installed.",
            fix=f"Type: pip install 'tunewright[batch]'  or unset {CLUSTER}.",
        ) from None
    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return ray
