"""Decisions that the processes of a distributed training must take alike."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from tunewright.core.processes import process_count

_Found = TypeVar("_Found")


def agreed(found: _Found) -> _Found:
    """What the leader found. Every process has to call this."""
    if process_count() == 1:
        return found
    distributed = _joined()
    said = [found]
    distributed.broadcast_object_list(said)
    return said[0]


def any_of(flag: bool) -> bool:
    """Whether it is true in any process. Every process has to call this."""
    return any(gathered(flag))


def gathered(found: _Found) -> list[_Found]:
    """What each process found, the leader's first. Every process has to call this."""
    if process_count() == 1:
        return [found]
    distributed = _joined()
    everything: list[Any] = [None] * process_count()
    distributed.all_gather_object(everything, found)
    return everything


def _joined() -> Any:
    """torch.distributed, of whose group this process is a member."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed
