"""The loss on the answer's tokens, with the vocabulary projected nowhere else.

A prompt is long and an answer is a few tokens, but the vocabulary is the widest layer of a small model: projecting
every position took half of a training step. Batches are padded on the left, so all answers end at the same position and
only the last few positions are projected. The loss is the same mean cross-entropy as over all positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.train.encode import IGNORED


def collate(rows: Sequence[dict[str, list[int]]], pad_token: int) -> dict[str, Any]:
    """A batch padded on the left: `input_ids`, `attention_mask`, `position_ids` and `labels`, each [batch, longest].

    Positions count from each example's own first token, so padding does not shift them.
    """
    import torch

    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: list[int], fill: int) -> list[int]:
        return [fill] * (longest - len(values)) + values

    lengths = [len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([padded(row["input_ids"], pad_token) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * length, 0) for length in lengths]),
        "position_ids": torch.tensor([padded(list(range(length)), 0) for length in lengths]),
        "labels": torch.tensor([padded(row["labels"], IGNORED) for row in rows]),
    }


def answer_loss(model: Any, batch: dict[str, Any], token_count: Any = None) -> tuple[Any, Any]:
    """Mean cross-entropy of the supervised tokens, and the model's outputs.

    Args:
        token_count: supervised tokens to divide by, where the mean runs over more than this batch (accumulation).
    """
    import torch

    targets = batch["labels"][:, 1:]
    supervised = (targets != IGNORED).any(0).nonzero()
    kept = targets.shape[1] - int(supervised.min())
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    # One more than the targets: the last position predicts what follows the answer, which nobody asks for.
    outputs = model(**inputs, logits_to_keep=kept + 1, use_cache=False)
    logits = outputs.logits[:, :-1].flatten(0, 1).float()
    total = torch.nn.functional.cross_entropy(
        logits, targets[:, -kept:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    count = token_count if token_count is not None else (targets != IGNORED).sum()
    return total / count, outputs
