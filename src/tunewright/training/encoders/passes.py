"""Texts through an encoder without gradients, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from tunewright.training.encoders.network import Network

AT_ONCE = 128
"""Texts in one pass."""
OF_A_LABEL = 32
"""Texts whose centre is a label's first vector."""


def filled_up(texts: Sequence[Sequence[int]], padding: int) -> dict[str, Any]:
    """`input_ids` and `attention_mask` [texts, tokens of the longest]."""
    lengths = np.array([len(text) for text in texts])
    used = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(used.shape, padding, np.int64)
    ids[used] = np.concatenate(texts)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(used.astype(np.int64))}


def logits_of(network: Network, texts: Sequence[Sequence[int]], at_once: int = AT_ONCE) -> Any:
    """The logits [texts, labels] of token ids, in float32 on the CPU."""
    found = _in_passes(network, network, texts, at_once)
    return found + torch.from_numpy(np.array(network.beside.logits(texts))) if network.beside else found


def rows_of(network: Network, texts: Sequence[Sequence[int]], at_once: int = AT_ONCE) -> list[Any]:
    """The logits of each text, [labels], or [tokens, labels] where the network's head reads tokens; in float32 on the
    CPU."""
    found: list[Any] = [None] * len(texts)
    for numbers, logits in _passes(network, network, texts, at_once):
        for number, row in zip(numbers, logits, strict=True):
            found[number] = row[: len(texts[number])] if network.per_token else row
    if network.beside:
        found = [row + torch.from_numpy(more) for row, more in zip(found, network.beside.logits(texts), strict=True)]
    return found


def vectors_of(network: Network, texts: Sequence[Sequence[int]]) -> Any:
    """The vectors [texts, width] of token ids, in float32 on the CPU."""
    return _in_passes(network, network.embed, texts, AT_ONCE)


def _in_passes(network: Network, function: Any, texts: Sequence[Sequence[int]], at_once: int) -> Any:
    order, found = [], []
    for numbers, made in _passes(network, function, texts, at_once):
        order += numbers
        found.append(made)
    whole = torch.cat(found)
    return torch.empty_like(whole).index_copy_(0, torch.tensor(order), whole)


def _passes(
    network: Network, function: Any, texts: Sequence[Sequence[int]], at_once: int
) -> Iterator[tuple[list[int], Any]]:
    """(the numbers of some texts that are about equally long, what the function makes of them)."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), at_once):
        numbers = order[start : start + at_once]
        batch = filled_up([texts[number] for number in numbers], network.padding)
        with torch.no_grad():
            made = function(*(batch[name].to(network.device) for name in ("input_ids", "attention_mask"))).cpu()
        yield numbers, made
