"""The objective for several labels a text: for each label separately, whether it applies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, MultiLabelTask
from tunewright.tasks.multi_label import labels_in
from tunewright.training.encoders.network import Network
from tunewright.training.encoders.passes import OF_A_LABEL, logits_of, vectors_of
from tunewright.training.loop.encode import Row

_APART = 1e-3
"""Below this length the direction from all texts to a label's texts is undefined: the label applies everywhere."""
_EVEN = 0.5
"""Probability from which a label is given during training; the bundle's thresholds are chosen at the end."""


class SomeLabels:
    """A sigmoid for each label. The loss is the mean over texts and labels, as it is over the tokens of an answer.

    Args:
        task: the task with the labels, in the spec's order.
        smoothing: share of each target that is replaced by even odds.
    """

    per_token = False
    lowest = 1.0

    def __init__(self, task: MultiLabelTask, smoothing: float):
        self.outputs, self._task, self.smoothing = list(task.labels), task, smoothing
        self._number = {label: number for number, label in enumerate(self.outputs)}

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        return list(examples)

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        """`labels`: 1 where a label applies, else 0 [labels]."""
        targets = [0] * len(self.outputs)
        for label in labels_in(example.answer):
            targets[self._number[label]] = 1
        return {"input_ids": tokenizer.encode_framed(example.request), "labels": targets}

    def gold(self, rows: Sequence[Row]) -> Any:
        """[rows, labels] in float32."""
        return torch.tensor([row["labels"] for row in rows], dtype=torch.float32)

    def loss(self, logits: Any, gold: Any, weights: Any = None) -> Any:
        aim = gold * (1 - self.smoothing) + self.smoothing / 2
        if weights is None:
            return F.binary_cross_entropy_with_logits(logits, aim)
        return (F.binary_cross_entropy_with_logits(logits, aim, reduction="none").mean(1) * weights).mean()

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:  # noqa: ARG002 (the protocol)
        # The two divergences between sigmoids sum to (p - q)(a - b), where a and b are their logits.
        return ((one.sigmoid() - other.sigmoid()) * (one - other)).mean() / 2

    def begin(self, network: Network, rows: Sequence[Row]) -> None:
        """Initialise the head: a label's vector is the direction from the centre of all sampled texts to the centre
        of the label's first ones. Even odds lie halfway between the two centres. A label without texts keeps its
        random vector."""
        chosen: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            for number, applies in enumerate(row["labels"]):
                if applies and len(places := chosen.setdefault(number, [])) < OF_A_LABEL:
                    places.append(place)
        network.eval()
        some = sorted({place for places in chosen.values() for place in places})
        vectors = vectors_of(network, [rows[place]["input_ids"] for place in some])
        at = {place: number for number, place in enumerate(some)}
        middle = vectors.mean(0)
        for number, places in chosen.items():
            centre = vectors[[at[place] for place in places]].mean(0)
            direction = centre - middle
            direction = F.normalize(direction if direction.norm() > _APART else centre, dim=-1)
            network.head.weight.data[number] = direction.to(network.device)
            network.head.bias.data[number] = -float(direction @ (centre + middle)) / 2

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        logits, gold = logits_of(network, [network.placed(row["input_ids"]) for row in rows]), self.gold(rows)
        losses = F.binary_cross_entropy_with_logits(logits, gold, reduction="none").sum(1).tolist()
        given = [
            self._task.written_out(label for label, applies in zip(self.outputs, each, strict=True) if applies)
            for each in (logits.sigmoid() >= _EVEN).tolist()
        ]
        return given, losses

    def describe(self, row: Row) -> str:
        return (
            ", ".join(label for label, applies in zip(self.outputs, row["labels"], strict=True) if applies)
            or "no label"
        )

    def rarest(self, rows: Sequence[Row]) -> str:
        count = Counter(dict.fromkeys(self.outputs, 0))
        for row in rows:
            count.update(dict(zip(self.outputs, row["labels"], strict=True)))
        rarest = min(count, key=lambda label: count[label])
        return f"{sum(not any(row['labels']) for row in rows)} have no label; the rarest, {rarest}, has {count[rarest]}"
