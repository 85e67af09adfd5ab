"""Doing the same to every part of the data, on this machine's cores or on a Ray cluster, in the parts' order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tunewright.core.errors import UserError
from tunewright.core.processes import end_with_parent

CLUSTER = "RAY_ADDRESS"
"""Ray's own variable: the cluster to use, or "local" for one on this machine."""

_Result = TypeVar("_Result")


def each(
    function: Callable[..., _Result], parts: Sequence[tuple[Any, ...]], *, small: bool, gpus: int = 0
) -> Iterator[_Result]:
    """`function(*part)` for each part.

    Where RAY_ADDRESS is set, the parts go to that cluster, whose machines must see the same files under the same paths.

    Args:
        small: whether starting processes would take longer than the work; it is then done in this one.
        gpus: that a part needs on a cluster. On this machine the parts are then done in this process, one by one.

    Raises:
        UserError: RAY_ADDRESS is set, and Ray is not installed.
    """
    if os.environ.get(CLUSTER):
        yield from _on_ray(function, parts, gpus)
    elif small or gpus or len(parts) == 1 or cores() == 1:
        yield from (function(*part) for part in parts)
    else:
        yield from _on_cores(function, parts)


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_cores(function: Callable[..., _Result], parts: Sequence[tuple[Any, ...]]) -> Iterator[_Result]:
    # Spawned, not forked: the parent may hold threads of numerical libraries.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), len(parts)), context, initializer=_begin) as pool:
        futures = [pool.submit(function, *part) for part in parts]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "A process that did a part of the work was killed.",
                why="Most often memory has run out.",
                fix="Free some memory, then type the same command again.",
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()  # where all is done this changes nothing; after Ctrl-C nobody waits for a part


def _begin() -> None:
    """Ctrl-C reaches all processes of a terminal; the one that was started by the user answers it."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_ray(function: Callable[..., _Result], parts: Sequence[tuple[Any, ...]], gpus: int) -> Iterator[_Result]:
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            f"{CLUSTER} is set, but Ray is not installed.",
            fix=f"Type: pip install 'tunewright[batch]'  or unset {CLUSTER}.",
        ) from None
    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        remote = ray.remote(num_gpus=gpus)(function)
        yield from (ray.get(reference) for reference in [remote.remote(*part) for part in parts])
    finally:
        ray.shutdown()
