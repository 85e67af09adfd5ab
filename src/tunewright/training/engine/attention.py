"""Attention over packed batches: every example sees its group's prefix and itself, and nothing else.

It is registered with transformers as an attention implementation, so it works for every architecture that lets its
attention be chosen; the projections, norms and position encodings around it stay the model's own. It is exact: no key
is dropped and none is added. Without a layout it is transformers' SDPA. Masks and indices, which are the same in all
layers, are built by the first layer and kept with the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunewright.training.engine.line_attention import attend_lines

if TYPE_CHECKING:
    from tunewright.training.engine.prompt_cache import PromptCache

NAME = "tunewright_packed"
_SCORES = 2**27
"""Above this many attention scores a layer, they are no longer held in memory at once."""
_ALONE = 2**22
"""Above this many numbers in the mask of lines that hold one example each, each example is a call of its own: then
the mask of the longest one serves all."""
_STEP = 16
"""Mask rows are padded to a multiple of this: memory-efficient attention copies other masks (torch's
aten/src/ATen/native/transformers/attention.cpp, `preprocess_mask`, read 2026-11-27)."""
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")
"""Arguments that some models pass to attention besides keys and values, and that are not supported."""


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
    prompt_cache: PromptCache | None = None,
    **rest: Any,
) -> tuple[Any, None]:
    """Scaled dot-product attention over a batch from `tunewright.training.engine.packing.pack`.

    Args:
        query: [1, heads, T, width]; key and value: [1, key heads, T, width].
        sliding_window: a position sees only the last so many positions, itself included.
        prompt_cache: is filled by a batch from `pack`, and continued by a batch from its own `continuation`.

    Returns:
        [1, T, heads, width], and no weights.

    Raises:
        NotImplementedError: the model needs more than keys, values and a window.
    """
    import torch

    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        seen, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
        return seen, None
    unsupported = [name for name in _UNSUPPORTED if rest.get(name) is not None]
    if unsupported:
        raise NotImplementedError(f"its attention has {unsupported[0]}")
    # Position encodings may return float32 although the hidden states are 16 bits.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    how = (scale, dropout, sliding_window)
    parts = []
    for number, group in enumerate(layout):
        if prompt_cache and "of" in group:
            own = slice(group["start"], group["start"] + group["own"])
            before = prompt_cache.of(module.layer_idx, group)
            parts.append(_own(group, query[0, :, own], key[0, :, own], value[0, :, own], before, *how))
            continue
        middle = group["start"] + group["shared"]
        prefix, own = slice(group["start"], middle), slice(middle, middle + group["own"])
        if group["shared"]:
            parts.append(_prefix(group, query[0, :, prefix], key[0, :, prefix], value[0, :, prefix], *how))
        whole = slice(group["start"], own.stop)
        parts.append(_own(group, query[0, :, own], key[0, :, whole], value[0, :, whole], None, *how))
        if prompt_cache:
            prompt_cache.keep(
                module.layer_idx, number, *(x[0, :, part] for part in (own, prefix) for x in (key, value))
            )
    return torch.cat(parts)[None], None


def _once(group: dict[str, Any], name: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """The result of `make`, cached once a batch for all layers under this name; it has no gradients."""
    cached = group.setdefault("cached", {})
    if name not in cached:
        cached[name] = make()
    return cached[name]


def _prefix(
    group: dict[str, Any], query: Any, key: Any, value: Any, scale: float, dropout: float, window: int | None
) -> Any:
    """Causal attention of a prefix over itself. [heads, P, width] -> [P, heads, width]"""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads, length, _ = query.shape
    mask = None
    if window and window < length:

        def banded() -> Any:
            ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
            return _additive(ones.tril() & ones.triu(1 - window), query.dtype)

        mask = _once(group, ("prefix", window, query.dtype), banded)
    if query.device.type == "cpu":
        # The backward pass would hold all tokens' numbers for those of the prefix.
        query, key, value = query.clone(), key.clone(), value.clone()
    # Several query heads see one key head; with key heads as the batch, none is copied for them.
    key_heads = key.shape[0]
    key, value = (x[:, None].expand(-1, heads // key_heads, -1, -1) for x in (key, value))
    seen = scaled_dot_product_attention(
        query.unflatten(0, (key_heads, -1)), key, value, mask, dropout, is_causal=mask is None, scale=scale
    )
    return seen.flatten(0, 1).transpose(0, 1)


def _own(
    group: dict[str, Any],
    query: Any,
    key: Any,
    value: Any,
    before: tuple[Any, Any, Any, Any] | None,
    scale: float,
    dropout: float,
    window: int | None,
) -> Any:
    """Attention of the own tokens over their prefix and their example. [heads, own, width] -> [own, heads, width]

    Args:
        key: and value: [key heads, tokens, width], of the group's prefix and its own tokens, or of the own tokens alone
            if `before` holds the prefix.
        before: earlier keys and values, of the lines and of the prefix.
    """
    lines, length = group["index"].shape
    keys = group["shared"] + length + (0 if before is None else before[0].shape[2])
    scores = query.shape[0] * lines * length * keys
    if query.device.type == "cpu" and scores <= _SCORES and not dropout:
        attend = _by_products
    elif before is None and lines == len(group["lengths"]) and scores > _ALONE * key.shape[0]:
        return _one_by_one(group, query, key, value, scale, dropout, window)
    else:
        attend = _by_kernel
    return attend(group, query, key, value, before, scale, dropout, window).index_select(0, group["back"])


def _masks(group: dict[str, Any], window: int | None) -> tuple[Any, Any]:
    """Masks: the prefix tokens that each token sees, bool [lines, length, shared] or None for all, and those it sees
    in its line."""
    import torch

    seen, position, shared = group["seen"], group["position"], group["shared"]
    if not window or window > shared + seen.shape[2]:
        return None, seen
    own = seen & (position[:, :, None] - group["key_position"][:, None, :] < window)
    prefix = position[:, :, None] - torch.arange(shared, device=position.device) < window
    return prefix, own


def _additive(mask: Any, dtype: Any) -> Any:
    """The mask as an addend for scores: 0 where it is true, else minus infinity."""
    import torch

    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def _by_products(
    group: dict[str, Any],
    query: Any,
    key: Any,
    value: Any,
    before: tuple[Any, Any, Any, Any] | None,
    scale: float,
    dropout: float,  # noqa: ARG001 -- there is none; the other ways have it
    window: int | None,
) -> Any:
    """Attention as plain matrix products, in which all lines share the prefix's keys, without dropout; arguments as in
    `_own`. -> [lines * length, heads, width]"""
    import torch

    (heads, _, width), key_heads, (lines, length) = query.shape, key.shape[0], group["index"].shape
    shared, flat = group["shared"], group["index"].flatten()
    if before is None:
        # Copies, because the backward pass would hold all tokens' keys for these.
        prefix = (key[:, :shared].clone(), value[:, :shared].clone()) if shared else None
        key, value = key[:, shared:], value[:, shared:]
    query, key, value = (x.index_select(1, flat).unflatten(1, (lines, length)) for x in (query, key, value))
    if before is not None:
        prefix = before[2:] if shared else None
        key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)

    def hidden() -> tuple[Any, Any]:
        of_prefix, own = _masks(group, window)
        return _additive(own, query.dtype), None if of_prefix is None else _additive(of_prefix, query.dtype)

    # Query heads of one key head side by side.
    rows = (heads // key_heads) * length
    query = query.unflatten(0, (key_heads, -1)).transpose(1, 2).reshape(key_heads, lines, rows, width) * scale
    seen = attend_lines(query, key, value, prefix, _once(group, ("products", window, query.dtype), hidden))
    return seen.unflatten(2, (-1, length)).permute(1, 3, 0, 2, 4).reshape(lines * length, heads, width)


def _by_kernel(
    group: dict[str, Any],
    query: Any,
    key: Any,
    value: Any,
    before: tuple[Any, Any, Any, Any] | None,
    scale: float,
    dropout: float,
    window: int | None,
) -> Any:
    """Attention by SDPA, which holds no scores. A line's keys, including the prefix's, are gathered by one copy for
    each key head; the query heads that see them are further rows, so that nothing is repeated for them."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    (heads, _, width), key_heads, (lines, length) = query.shape, key.shape[0], group["index"].shape
    flat, repeats = group["index"].flatten(), query.shape[0] // key.shape[0]
    if before is None:
        places = _once(group, ("places",), lambda: _places(group))
        key, value = (x.index_select(1, places.flatten()).unflatten(1, places.shape) for x in (key, value))
    else:
        own = (x.index_select(1, flat).unflatten(1, (lines, length)) for x in (key, value))
        prefixes = (x[:, None].expand(-1, lines, -1, -1) for x in before[2:])
        key, value = (torch.cat(parts, 2) for parts in zip(prefixes, before[:2], own, strict=True))
    bias = _once(group, ("kernel", window, query.dtype, repeats), lambda: _bias(group, window, repeats, query))
    query = query.index_select(1, flat).view(key_heads, repeats, lines, length, width)
    query = query.permute(2, 0, 1, 3, 4).reshape(lines, key_heads, repeats * length, width)
    seen = scaled_dot_product_attention(
        query, key.transpose(0, 1), value.transpose(0, 1), bias, dropout, scale=scale
    ).unflatten(2, (repeats, length))
    return seen.permute(0, 3, 1, 2, 4).reshape(lines * length, heads, width)


def _one_by_one(
    group: dict[str, Any], query: Any, key: Any, value: Any, scale: float, dropout: float, window: int | None
) -> Any:
    """Attention of long examples, one SDPA call each; arguments as in `_own`. -> [own, heads, width]"""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads, key_heads, shared = query.shape[0], key.shape[0], group["shared"]
    longest, bias = max(group["lengths"]), None
    windowed = bool(window and window < shared + longest)
    if shared or windowed:

        def seen_of() -> Any:
            ones = torch.ones(longest, shared + longest, dtype=torch.bool, device=query.device).tril(shared)
            step = -(-(shared + longest) // _STEP) * _STEP
            bias = query.new_zeros(longest, step)[:, : shared + longest]
            return bias.masked_fill_(~(ones.triu(shared + 1 - (window or 0)) if windowed else ones), float("-inf"))

        bias = _once(group, ("alone", window, query.dtype), seen_of)
    parts = []
    own = zip(
        query.split(group["lengths"], 1), *(x[:, shared:].split(group["lengths"], 1) for x in (key, value)), strict=True
    )
    for q, k, v in own:
        length = q.shape[1]
        if shared:
            k, v = torch.cat([key[:, :shared], k], 1), torch.cat([value[:, :shared], v], 1)
        k, v = (x[:, None].expand(-1, heads // key_heads, -1, -1) for x in (k, v))
        mask = None if bias is None else bias[:length, : shared + length]
        seen = scaled_dot_product_attention(
            q.unflatten(0, (key_heads, -1)), k, v, mask, dropout, is_causal=mask is None, scale=scale
        )
        parts.append(seen.flatten(0, 1).transpose(0, 1))
    return torch.cat(parts)


def _places(group: dict[str, Any]) -> Any:
    """The index of each line's keys in the group, the prefix's first. [lines, shared + length]"""
    import torch

    index, shared = group["index"], group["shared"]
    prefix = torch.arange(shared, device=index.device).expand(len(index), -1)
    return torch.cat([prefix, index + shared], 1)


def _bias(group: dict[str, Any], window: int | None, repeats: int, like: Any) -> Any:
    """The addend for SDPA's scores, [lines, 1, repeats * length, keys], in the type that kernels read."""
    of_prefix, own = _masks(group, window)
    lines, length, keys = own.shape
    shared = group["shared"]
    # The kernel would copy rows of another step, in every layer.
    step = -(-(shared + keys) // _STEP) * _STEP
    bias = like.new_zeros(lines, 1, repeats, length, step)[..., : shared + keys]
    if of_prefix is not None:
        bias[..., :shared].masked_fill_(~of_prefix[:, None, None], float("-inf"))
    bias[..., shared:].masked_fill_(~own[:, None, None], float("-inf"))
    return bias.flatten(2, 3)
