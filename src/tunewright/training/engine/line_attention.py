"""Attention of packed lines by plain matrix products, for CPUs: 2 to 3 times as fast there as SDPA's kernel, whose
backward pass is slow with masks and short rows.

Scores are by far the most numbers of a layer. So none are kept for the backward pass, which computes them anew, and
only those of a few lines are held at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

_AT_ONCE = 2**22
"""Most scores held at once, unless a single line has more."""


def attend_lines(
    query: Any, key: Any, value: Any, prefix: tuple[Any, Any] | None, hidden: tuple[Any, Any | None]
) -> Any:
    """Attention of lines over the prefix that they share, and over themselves.

    Args:
        query: scaled, [key heads, lines, query heads of a key head * length, width].
        key: and value: [key heads, lines, keys, width], of the lines alone.
        prefix: keys and values of the prefix, [key heads, shared, width]; None: there is none.
        hidden: addends for the scores: of the lines [lines, length, keys], and of the prefix [lines, length, shared]
            or None if all of it is seen.

    Returns:
        in the query's shape.
    """
    return _line_attention().apply(query, key, value, *(prefix or (None, None)), *hidden)


def _parts(query: Any, keys: int) -> Iterator[slice]:
    """The lines, as many at a time as may be held."""
    _, lines, rows, _ = query.shape
    step = max(1, _AT_ONCE // (query.shape[0] * rows * keys))
    for start in range(0, lines, step):
        yield slice(start, start + step)


def _weights(query: Any, key: Any, prefix_key: Any, hidden_own: Any, hidden_prefix: Any) -> Any:
    """The weight of each key, those of the prefix first. [key heads, lines, rows, shared + keys]"""
    import torch

    heads, lines, rows, _ = query.shape
    by_head = (heads, lines, -1, hidden_own.shape[1])
    scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)).view(*by_head, key.shape[2])
    scores += hidden_own[:, None]
    if prefix_key is not None:
        of_prefix = torch.bmm(query.flatten(1, 2), prefix_key.transpose(1, 2)).view(*by_head, prefix_key.shape[1])
        if hidden_prefix is not None:
            of_prefix += hidden_prefix[:, None]
        scores = torch.cat([of_prefix, scores], -1)
    return torch.softmax(scores, -1).view(heads, lines, rows, -1)


def _divided(weights: Any, shared: int) -> tuple[Any, Any]:
    """The lines' own part as [key heads * lines, rows, keys], and the prefix's as [key heads, lines * rows, shared]."""
    heads, lines, rows, keys = weights.shape
    own = weights[..., shared:].reshape(heads * lines, rows, keys - shared)
    return own, weights[..., :shared].reshape(heads, lines * rows, shared)


@functools.cache
def _line_attention() -> Any:
    import torch
    from torch import bmm

    class LineAttention(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(
            ctx: Any,
            query: Any,
            key: Any,
            value: Any,
            prefix_key: Any,
            prefix_value: Any,
            hidden_own: Any,
            hidden_prefix: Any,
        ) -> Any:
            shared = 0 if prefix_key is None else prefix_key.shape[1]
            seen = torch.empty_like(query)
            for part in _parts(query, shared + key.shape[2]):
                asked, of_prefix = query[:, part], None if hidden_prefix is None else hidden_prefix[part]
                weights = _weights(asked, key[:, part], prefix_key, hidden_own[part], of_prefix)
                own, before = _divided(weights, shared)
                some = bmm(own, value[:, part].flatten(0, 1)).view(asked.shape)
                seen[:, part] = some + bmm(before, prefix_value).view(asked.shape) if shared else some
            ctx.save_for_backward(query, key, value, prefix_key, prefix_value, hidden_own, hidden_prefix)
            return seen

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
            query, key, value, prefix_key, prefix_value, hidden_own, hidden_prefix = ctx.saved_tensors
            shared = 0 if prefix_key is None else prefix_key.shape[1]
            of_query, of_key, of_value = (torch.empty_like(x) for x in (query, key, value))
            # Sums over all lines, so in float32 at least.
            of_prefix = [
                torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
                for x in (prefix_key, prefix_value)
                if shared
            ]
            for part in _parts(query, shared + key.shape[2]):
                asked, keys, values = query[:, part], key[:, part], value[:, part]
                hidden = None if hidden_prefix is None else hidden_prefix[part]
                weights = _weights(asked, keys, prefix_key, hidden_own[part], hidden)
                slope = upstream[:, part]
                by_line, by_head = slope.flatten(0, 1), slope.flatten(1, 2)
                own, before = _divided(weights, shared)
                of_value[:, part] = bmm(own.transpose(1, 2), by_line).view(values.shape)
                of_weights = bmm(by_line, values.flatten(0, 1).transpose(1, 2)).view(*asked.shape[:3], -1)
                if shared:
                    of_prefix[1] += bmm(before.transpose(1, 2), by_head)
                    of_before = bmm(by_head, prefix_value.transpose(1, 2)).view(*asked.shape[:3], -1)
                    of_weights = torch.cat([of_before, of_weights], -1)
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                own, before = _divided(of_scores, shared)
                of_key[:, part] = bmm(own.transpose(1, 2), asked.flatten(0, 1)).view(keys.shape)
                of_asked = bmm(own, keys.flatten(0, 1)).view(asked.shape)
                if shared:
                    of_prefix[0] += bmm(before.transpose(1, 2), asked.flatten(1, 2))
                    of_asked += bmm(before, prefix_key).view(asked.shape)
                of_query[:, part] = of_asked
            prefixes = [x.to(query.dtype) for x in of_prefix] or [None, None]
            return of_query, of_key, of_value, *prefixes, None, None

    return LineAttention
