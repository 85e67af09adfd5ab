"""A process's share of each batch, where several processes of a CPU machine train one adapter.

They add their gradients up, so it is the step that one process would take. What one does in turn (drawing dropout,
calling operations) is done side by side, and small products are not cut up among threads. The price is that each runs
the shared prefix, and holds the model. `tunewright.training.planning.division` says when that pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.processes import share, threads
from tunewright.training.loop.encode import Row


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
