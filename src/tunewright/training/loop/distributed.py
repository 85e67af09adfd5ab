"""Decisions that all processes of a distributed training must take alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from tunewright.core.processes import process_count, share
from tunewright.core.threads import threads
from tunewright.training.loop.encode import Row

_Value = TypeVar("_Value")


def agreed(value: _Value) -> _Value:
    """The leader's value. Every process has to call this."""
    if process_count() == 1:
        return value
    distributed = _process_group()
    broadcast = [value]
    distributed.broadcast_object_list(broadcast)
    return broadcast[0]


def any_of(flag: bool) -> bool:
    """Whether the flag is true in any process. Every process has to call this."""
    return any(gathered(flag))


def gathered(value: _Value) -> list[_Value]:
    """Each process's value, the leader's first. Every process has to call this."""
    if process_count() == 1:
        return [value]
    distributed = _process_group()
    everything: list[Any] = [None] * process_count()
    distributed.all_gather_object(everything, value)
    return everything


def _process_group() -> Any:
    """torch.distributed, after this process has joined its group."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed


def use_all_threads() -> None:
    """Use all threads of the machine, once the other processes have finished."""
    import torch

    torch.set_num_threads(threads() * share()[1])


def own_share(batch: Sequence[Row]) -> list[Row]:
    """This process's share of a batch."""
    number, shares = share()
    return dealt(batch, shares)[number] if shares > 1 else list(batch)


def dealt(batch: Sequence[Row], shares: int) -> list[list[Row]]:
    """Divide a batch into shares with about the same number of tokens: the longest rows first, each to the share
    that has the fewest tokens so far."""
    rows: list[list[Row]] = [[] for _ in range(shares)]
    lengths = [0] * shares
    for row in sorted(batch, key=lambda row: -len(row["input_ids"])):
        smallest = lengths.index(min(lengths))
        rows[smallest].append(row)
        lengths[smallest] += len(row["input_ids"])
    return rows


def whole_batches(trainer: Any) -> Any:
    """A trainer's whole batches, in the order that one process would train them in; the collator takes this process's
    share.

    accelerate would divide batches itself, and fill the last one with rows that were already seen.
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
