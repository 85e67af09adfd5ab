"""Forward passes of an encoder over many texts, without gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from tunewright.training.encoders.network import Network

AT_ONCE = 128
"""Texts in one forward pass."""
OF_A_LABEL = 32
"""Texts of a label whose centre is its initial vector."""


def filled_up(texts: Sequence[Sequence[int]], padding: int) -> dict[str, Any]:
    """Pad texts: `input_ids` and `attention_mask` [texts, tokens of the longest]."""
    lengths = np.array([len(text) for text in texts])
    used = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(used.shape, padding, np.int64)
    ids[used] = np.concatenate(texts)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(used.astype(np.int64))}


def logits_of(network: Network, texts: Sequence[Sequence[int]], at_once: int = AT_ONCE) -> Any:
    """The logits [texts, labels] of texts' token ids, in float32 on the CPU."""
    own = _in_passes(network, network, texts, at_once)
    return own + torch.from_numpy(np.array(network.beside.logits(texts))) if network.beside else own


def rows_of(network: Network, texts: Sequence[Sequence[int]], at_once: int = AT_ONCE) -> list[Any]:
    """Each text's logits, [labels], or [tokens, labels] if the head reads tokens; in float32 on the CPU."""
    by_text: list[Any] = [None] * len(texts)
    for numbers, logits in _passes(network, network, texts, at_once):
        for number, row in zip(numbers, logits, strict=True):
            by_text[number] = row[: len(texts[number])] if network.per_token else row
    if network.beside:
        by_text = [
            row + torch.from_numpy(more) for row, more in zip(by_text, network.beside.logits(texts), strict=True)
        ]
    return by_text


def vectors_of(network: Network, texts: Sequence[Sequence[int]]) -> Any:
    """The vectors [texts, width] of texts' token ids, in float32 on the CPU."""
    return _in_passes(network, network.embed, texts, AT_ONCE)


def _in_passes(network: Network, function: Any, texts: Sequence[Sequence[int]], at_once: int) -> Any:
    order, results = [], []
    for numbers, result in _passes(network, function, texts, at_once):
        order += numbers
        results.append(result)
    whole = torch.cat(results)
    return torch.empty_like(whole).index_copy_(0, torch.tensor(order), whole)


def _passes(
    network: Network, function: Any, texts: Sequence[Sequence[int]], at_once: int
) -> Iterator[tuple[list[int], Any]]:
    """(the indices of some texts with about the same length, the function's result for them)."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), at_once):
        numbers = order[start : start + at_once]
        batch = filled_up([texts[number] for number in numbers], network.padding)
        with torch.no_grad():
            result = function(*(batch[name].to(network.device) for name in ("input_ids", "attention_mask"))).cpu()
        yield numbers, result
