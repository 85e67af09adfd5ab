"""Batches and the loss: nothing is computed twice, and nothing that the loss does not ask for.

A narrow task's examples are short and begin alike. So a batch is packed: the tokens that all its examples begin with
stand once at the head of each line, the rest of several examples follows, and the attention mask lets an example see
the head and itself. Each position is numbered as if its example stood alone. The vocabulary, the widest layer of a
small model, is projected only where an answer's token is predicted. Loss and gradients are those of the examples one by
one; with dropout in the adapter, examples of a line share what is dropped in the head.

Where rows have `choices`, each token is chosen from those alone, as in serving: the sum over an answer is then
-log P(label) of `tunewright.tasks.score_labels`, and nothing is spent on learning what the trie already rules out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from tunewright.models.prefix import common_prefix
from tunewright.train.encode import IGNORED, Row

LINE = 256
"""Tokens a line is filled up to: longer lines cost more in attention than they save elsewhere."""
_NO_CHOICE = -1
_HEAD, _FILL = -1, -2


def collate(rows: Sequence[Row]) -> dict[str, Any]:
    """A packed batch.

    Returns:
        `input_ids`, `position_ids` and `labels`, [lines, length]; `attention_mask`, bool [lines, 1, length, length],
        true where the row's position sees the column's; and with rows that have choices `choices`, [labelled tokens,
        most choices], in the order of the labelled tokens read line by line.
    """
    import torch

    head = _common_head(rows)
    lines = _fill_lines([len(row["input_ids"]) - head for row in rows], head)
    length = max(head + sum(len(rows[i]["input_ids"]) - head for i in line) for line in lines)
    ids = torch.zeros(len(lines), length, dtype=torch.long)
    positions, owner = torch.zeros_like(ids), torch.full_like(ids, _FILL)
    labels = torch.full_like(ids, IGNORED)
    ids[:, :head] = torch.tensor(rows[0]["input_ids"][:head])
    positions[:, :head] = torch.arange(head)
    owner[:, :head] = _HEAD
    for number, line in enumerate(lines):
        start = head
        for i in line:
            own = torch.tensor(rows[i]["input_ids"][head:])
            place = slice(start, start + len(own))
            ids[number, place] = own
            positions[number, place] = torch.arange(head, head + len(own))
            owner[number, place] = i
            labels[number, place] = torch.tensor(rows[i]["labels"][head:])
            start = place.stop
    seen = (owner[:, None, :] == _HEAD) | (owner[:, None, :] == owner[:, :, None])
    mask = (seen & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    batch = {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "labels": labels}
    if "choices" in rows[0]:
        batch["choices"] = _rectangle([offered for line in lines for i in line for offered in rows[i]["choices"]])
    return batch


def _common_head(rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with; each row keeps at least the one that predicts its first labelled token."""
    shared = reduce(lambda head, row: head[: common_prefix(head, row["input_ids"])], rows, rows[0]["input_ids"])
    first = min(next(place for place, label in enumerate(row["labels"]) if label != IGNORED) for row in rows)
    return min(len(shared), first - 1)


def _fill_lines(lengths: Sequence[int], head: int) -> list[list[int]]:
    """Which examples share a line: the longest first, each into the line that is emptiest so far."""
    room = max(LINE - head, *lengths)
    lines: list[list[int]] = [[] for _ in range(-(-sum(lengths) // room))]
    filled = [0] * len(lines)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        emptiest = filled.index(min(filled))
        lines[emptiest].append(i)
        filled[emptiest] += lengths[i]
    return lines


def _rectangle(choices: Sequence[Sequence[int]]) -> Any:
    import torch

    widest = max(map(len, choices))
    return torch.tensor([[*offered, *[_NO_CHOICE] * (widest - len(offered))] for offered in choices])


def answer_loss(model: Any, batch: dict[str, Any], token_count: Any = None) -> tuple[Any, Any]:
    """Mean cross-entropy of the labelled tokens, and the model's outputs.

    Args:
        token_count: labelled tokens to divide by, where the mean runs over more than this batch (accumulation).
    """
    import torch

    labelled = batch["labels"] != IGNORED
    # The logits at a position predict the token behind it.
    places = labelled.any(0).nonzero().flatten()
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "choices")}
    outputs = model(**inputs, logits_to_keep=places - 1, use_cache=False)
    wanted = batch["labels"][labelled]
    logits = outputs.logits[labelled[:, places]].float()
    if "choices" in batch:
        logits, wanted = _among(batch["choices"], logits, wanted)
    total = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    return total / (token_count if token_count is not None else len(wanted)), outputs


def _among(choices: Any, logits: Any, wanted: Any) -> tuple[Any, Any]:
    """Logits [tokens, vocabulary] cut to each token's choices, and the wanted one's place among them."""
    cut = logits.gather(1, choices.clamp(min=0)).masked_fill(choices == _NO_CHOICE, float("-inf"))
    return cut, (choices == wanted[:, None]).int().argmax(1)
