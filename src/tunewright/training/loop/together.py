"""Decisions that the processes of a distributed training must take alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from tunewright.core.processes import process_count, share, threads
from tunewright.training.loop.encode import Row

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


def alone() -> None:
    """Go on with all threads, once the other shares have nothing left to do."""
    import torch

    torch.set_num_threads(threads() * share()[1])


def own_share(batch: Sequence[Row]) -> list[Row]:
    """The rows of a batch that are this process's."""
    number, shares = share()
    return dealt(batch, shares)[number] if shares > 1 else list(batch)


def dealt(batch: Sequence[Row], shares: int) -> list[list[Row]]:
    """The rows of a batch in shares of about as many tokens: the longest first, each to whom has least so far."""
    rows: list[list[Row]] = [[] for _ in range(shares)]
    lengths = [0] * shares
    for row in sorted(batch, key=lambda row: -len(row["input_ids"])):
        least = lengths.index(min(lengths))
        rows[least].append(row)
        lengths[least] += len(row["input_ids"])
    return rows


def whole_batches(trainer: Any) -> Any:
    """A trainer's batches in the order of a training in one process, whole: its collator takes the share.

    accelerate would deal them out by itself, and fill the last one up with rows that were already seen.
    """
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    dataset, (_, shares) = trainer.train_dataset, share()
    loader = DataLoader(
        dataset,
        batch_size=trainer.args.per_device_train_batch_size * shares,
        sampler=trainer._get_train_sampler(),
        collate_fn=trainer.data_collator,
    )
    return prepare_data_loader(
        loader, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=trainer.args.data_seed
    )
