"""Attention over packed batches: every example sees its group's prefix and itself, and nobody else.

Registered with transformers as an attention implementation, so that every architecture that lets its attention be
chosen can be trained this way; the projections, norms and position encodings around it stay the model's own. It is
exact: no key is dropped and none is added. Without a layout it is transformers' own SDPA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.train.kept import KeptPrompts

NAME = "tunewright_packed"
_SCORES = 2**27
"""Above this many attention scores a layer, they are no longer held in memory at once."""
_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models ask of attention besides keys and values."""


def register_attention() -> None:
    """Make `attn_implementation=NAME` known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def packed_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    layout: list[dict[str, Any]] | None = None,
    kept: KeptPrompts | None = None,
    **rest: Any,
) -> tuple[Any, None]:
    """Scaled dot-product attention over a batch from `tunewright.train.packing.pack`.

    Args:
        query: [1, heads, T, width]; key and value: [1, key heads, T, width].
        sliding_window: a position sees only the last so many, itself included.
        kept: is filled with a batch from `pack`, and goes before one from its own `behind`.

    Returns:
        [1, T, heads, width], and no weights.

    Raises:
        NotImplementedError: the model asks for more than keys, values and a window.
    """
    import torch

    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        seen, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
        return seen, None
    asked = [name for name in _UNKNOWN if rest.get(name) is not None]
    if asked:
        raise NotImplementedError(f"its attention has {asked[0]}")
    # Position encodings may come back in float32 where the hidden states are.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for number, group in enumerate(layout):
        if kept and "of" in group:
            own = slice(group["start"], group["start"] + group["own"])
            before = kept.of(module.layer_idx, group)
            parts.append(_own(group, query[0, :, own], key[0, :, own], value[0, :, own], before, scale, dropout,
                              sliding_window))  # fmt: skip
            continue
        middle, end = group["start"] + group["shared"], group["start"] + group["shared"] + group["own"]
        prefix, own = slice(group["start"], middle), slice(middle, end)
        if group["shared"]:
            parts.append(_prefix(query[:, :, prefix], key[:, :, prefix], value[:, :, prefix], scale, dropout,
                                 sliding_window))  # fmt: skip
        before = (None, None, key[0, :, prefix], value[0, :, prefix])
        parts.append(_own(group, query[0, :, own], key[0, :, own], value[0, :, own], before, scale, dropout,
                          sliding_window))  # fmt: skip
        if kept:
            kept.keep(module.layer_idx, number, key[0, :, own], value[0, :, own], *before[2:])
    return torch.cat(parts)[None], None


def _prefix(query: Any, key: Any, value: Any, scale: float, dropout: float, window: int | None) -> Any:
    """Causal attention of a prefix over itself. [1, heads, P, width] -> [P, heads, width]"""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    length = query.shape[2]
    mask = None
    if window and window < length:
        ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask = ones.tril() & ones.triu(1 - window)
    repeats = query.shape[1] // key.shape[1]
    seen = scaled_dot_product_attention(
        query, _repeated(key, repeats), _repeated(value, repeats), mask, dropout, is_causal=mask is None, scale=scale
    )
    return seen[0].transpose(0, 1)


def _own(group: dict[str, Any], query: Any, key: Any, value: Any, before: tuple[Any, Any, Any, Any], scale: float,
         dropout: float, window: int | None) -> Any:  # fmt: skip
    """Attention of the own tokens over what is before and their example. [heads, own, width] -> [own, heads, width]

    Args:
        before: keys and values, in the lines, or None, and of the prefix.
    """
    import torch

    lines, length = group["index"].shape
    flat = group["index"].flatten()
    query, key, value = (x.index_select(1, flat).unflatten(1, (lines, length)) for x in (query, key, value))
    earlier_key, earlier_value, prefix_key, prefix_value = before
    if earlier_key is not None:
        key, value = torch.cat([earlier_key, key], 2), torch.cat([earlier_value, value], 2)
    masks = _masks(group, window)
    heads, width = query.shape[0], query.shape[-1]
    small = heads * lines * length * (group["shared"] + key.shape[2]) <= _SCORES
    attend = _by_products if query.device.type == "cpu" and small else _by_kernel
    seen = attend(query, key, value, prefix_key, prefix_value, masks, scale, dropout)
    return seen.permute(1, 2, 0, 3).reshape(lines * length, heads, width).index_select(0, group["back"])


def _masks(group: dict[str, Any], window: int | None) -> tuple[Any, Any]:
    """Who sees which prefix tokens, bool [lines, length, shared] or None for all of them, and whom of the line."""
    import torch

    seen, position, shared = group["seen"], group["position"], group["shared"]
    if not window or window > shared + seen.shape[2]:
        return None, seen
    own = seen & (position[:, :, None] - group["key_position"][:, None, :] < window)
    prefix = position[:, :, None] - torch.arange(shared, device=position.device) < window
    return prefix, own


def _by_products(query: Any, key: Any, value: Any, prefix_key: Any, prefix_value: Any, masks: tuple[Any, Any],
                 scale: float, dropout: float) -> Any:  # fmt: skip
    """Attention as plain matrix products, the prefix's keys shared by all lines instead of repeated.

    On CPUs 2 to 3 times faster than SDPA's kernel, whose backward pass is slow with masks and short rows.

    Args:
        query: [heads, lines, length, width]; key and value: [key heads, lines, keys, width]; the prefix's:
            [key heads, shared, width].
    """
    import torch
    from torch.nn.functional import dropout as drop

    heads, lines, length, width = query.shape
    key_heads = key.shape[0]
    shared = prefix_key.shape[1]
    rows = (heads // key_heads) * length
    # Query heads of one key head side by side: [key heads, lines, heads per key head * length, width]
    query = query.unflatten(0, (key_heads, -1)).transpose(1, 2).reshape(key_heads, lines, rows, width) * scale
    own = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    hidden = torch.zeros(masks[1].shape, dtype=query.dtype, device=query.device).masked_fill(~masks[1], float("-inf"))
    scores = own.view(key_heads, lines, -1, length, key.shape[2]) + hidden[:, None]
    if shared:
        prefix = torch.bmm(query.flatten(1, 2), prefix_key.transpose(1, 2)).view(key_heads, lines, -1, length, shared)
        if masks[0] is not None:
            prefix = prefix.masked_fill(~masks[0][:, None], float("-inf"))
        scores = torch.cat([prefix, scores], -1)
    weights = torch.softmax(scores, -1)
    if dropout:
        weights = drop(weights, dropout)
    seen = torch.bmm(weights[..., shared:].reshape(key_heads * lines, rows, -1), value.flatten(0, 1))
    seen = seen.view(key_heads, lines, rows, width)
    if shared:
        of_prefix = torch.bmm(weights[..., :shared].reshape(key_heads, lines * rows, shared), prefix_value)
        seen = seen + of_prefix.view(key_heads, lines, rows, width)
    return seen.unflatten(2, (-1, length)).transpose(1, 2).flatten(0, 1)


def _by_kernel(query: Any, key: Any, value: Any, prefix_key: Any, prefix_value: Any, masks: tuple[Any, Any],
               scale: float, dropout: float) -> Any:  # fmt: skip
    """The same through SDPA, which holds no scores; shapes as in `_by_products`."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    lines, length = query.shape[1], query.shape[2]
    shared = prefix_key.shape[1]
    repeats = query.shape[0] // key.shape[0]
    prefix = masks[0] if masks[0] is not None else masks[1].new_ones(lines, length, shared)
    mask = torch.cat([prefix, masks[1]], -1)[:, None]
    key, value = (
        _repeated(torch.cat([first[:, None].expand(-1, lines, -1, -1), rest], 2).transpose(0, 1), repeats)
        for first, rest in ((prefix_key, key), (prefix_value, value))
    )
    seen = scaled_dot_product_attention(query.transpose(0, 1), key, value, mask, dropout, scale=scale)
    return seen.transpose(0, 1)


def _repeated(heads: Any, times: int) -> Any:
    """[batch, key heads, length, width] -> [batch, heads, length, width]"""
    return heads if times == 1 else heads.repeat_interleave(times, 1)
