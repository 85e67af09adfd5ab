"""Batched greedy generation with torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.inference.decoding.protocols import DecodingRules, Writer


def write_all(
    model: Any, rules: DecodingRules, prompts: Sequence[Sequence[int]], max_tokens: int, at_once: int
) -> list[Writer]:
    """The greedy answer to each prompt; the same that `tunewright.inference.decoding.writing.generate` gives.

    Args:
        model: a transformers or peft causal model in evaluation mode; it may be wrapped by DistributedDataParallel.
        max_tokens: tokens that an answer may have.
        at_once: prompts in a batch. Prompts of similar length share one.
    """
    import torch

    window = _window(model)
    if window and max(map(len, prompts), default=0) + max_tokens > window:
        at_once = 1  # transformers counts a window in columns of the batch, and padding lies between a row's tokens
    writers = [rules.begin(max_tokens, prompt) for prompt in prompts]
    by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    with torch.inference_mode():
        for start in range(0, len(prompts), at_once):
            numbers = by_length[start : start + at_once]
            _write(model, [prompts[number] for number in numbers], [writers[number] for number in numbers])
    return writers


def _window(model: Any) -> int | None:
    """Tokens that a position sees in the model's narrowest layers; None: all."""
    config = getattr(model, "module", model).config  # DistributedDataParallel wraps the model
    used = getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if used else None


def _write(model: Any, prompts: Sequence[Sequence[int]], writers: Sequence[Writer]) -> None:
    """Generate one batch.

    Each step runs the tokens that each writer added, one or many, padded on the left. The mask hides the padding, and
    positions count within the row. Finished rows are dropped once they are half of the batch.
    """
    import torch
    from transformers import DynamicCache

    device = next(model.parameters()).device
    cache = DynamicCache()
    seen = torch.zeros(len(writers), 0, dtype=torch.long, device=device)
    run = [0] * len(writers)
    while any(not writer.done for writer in writers):
        left = [row for row, writer in enumerate(writers) if not writer.done]
        if 2 * len(left) <= len(writers):
            rows = torch.tensor(left, device=device)
            cache.batch_select_indices(rows)
            seen = seen[rows]
            prompts, writers = [prompts[row] for row in left], [writers[row] for row in left]
            run = [run[row] for row in left]
        added = [
            [] if writer.done else [*prompt, *writer.ids][done:]
            for prompt, writer, done in zip(prompts, writers, run, strict=True)
        ]
        width = max(map(len, added))
        ids = torch.tensor([[0] * (width - len(new)) + new for new in added], device=device)
        mask = torch.tensor([[0] * (width - len(new)) + [1] * len(new) for new in added], device=device)
        positions = torch.tensor(
            [
                [0] * (width - len(new)) + list(range(done, done + len(new)))
                for new, done in zip(added, run, strict=True)
            ],
            device=device,
        )
        seen = torch.cat([seen, mask], 1)
        # An index rather than a slice: a slice is strided, and the head would take a hundred times as long.
        answer = model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor([width - 1], device=device),
        )
        run = [done + len(new) for done, new in zip(run, added, strict=True)]
        for writer, logits in zip(writers, answer.logits[:, -1].float().cpu().numpy(), strict=True):
            if not writer.done:
                writer.choose(logits)
