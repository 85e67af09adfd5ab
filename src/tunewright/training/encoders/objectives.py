"""Objectives of an encoder's training: a row's targets, the loss, the head's initial values, and the answers from its
logits.

The rest of the training does not know the task; it calls the objective.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from tunewright.config.sections import EncoderSpec
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.extract import ExtractTask
from tunewright.training.encoders.label_sets import SomeLabels
from tunewright.training.encoders.network import Network
from tunewright.training.encoders.passes import OF_A_LABEL, logits_of, vectors_of
from tunewright.training.loop.encode import Row


class Objective(Protocol):
    outputs: list[str]
    """What each of the head's logits stands for."""
    per_token: bool
    """Whether the head reads each token's vector instead of the text's."""
    lowest: float
    """The embeddings' learning rate, as a multiple of the top layer's."""
    smoothing: float
    """Share of each target that the loss spreads over all outputs."""

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        """The training examples made of `examples`: each itself, or one for each of its windows."""
        ...

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        """`input_ids`, and `labels`: the targets of a text; `IGNORED` ones are not learnt."""
        ...

    def gold(self, rows: Sequence[Row]) -> Any:
        """The targets of a batch [rows, …], padded as its texts are."""
        ...

    def loss(self, logits: Any, gold: Any, weights: Any = None) -> Any:
        """The loss: the mean over the targets of a batch, in nats.

        Args:
            logits: the network's [rows, …].
            gold: as `gold` returns it.
            weights: by which each row's losses are multiplied [rows]; None: all count once.
        """
        ...

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:
        """How far two forward passes over each text differ, in nats: the mean of both Kullback-Leibler divergences
        between their probabilities, over the targets (Liang et al. 2021, "R-Drop").

        Args:
            one, other: logits of the same rows [rows, …].
            gold: their targets.
        """
        ...

    def begin(self, network: Network, rows: Sequence[Row]) -> None:
        """Initialise the head of an untrained network from the rows."""
        ...

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        """(each row's answer in canonical form, the loss of its right answer in nats, summed over its targets)."""
        ...

    def describe(self, row: Row) -> str:
        """The row's targets as text, for the audit."""
        ...

    def rarest(self, rows: Sequence[Row]) -> str:
        """The output with the fewest rows, as text, for the audit."""
        ...


def objective_of(
    task: Task, settings: EncoderSpec, examples: Sequence[Example] = (), tokenizer: TextTokenizer | None = None
) -> Objective:
    """The objective that teaches a task.

    Args:
        examples, tokenizer: the training part and the encoder's tokenizer, for a task that fills records. Such a task
            reads as much at once as the encoder does.

    Raises:
        UserError: an encoder can't learn the task.
    """
    if isinstance(task, ExtractTask):
        from tunewright.training.encoders.spans import SpanTags

        assert tokenizer, "tags need tokens"
        return SpanTags(task, settings, examples, tokenizer)
    if isinstance(task, MultiLabelTask):
        return SomeLabels(task, settings.label_smoothing)
    return OneLabel(task.answers, settings.label_smoothing)


class OneLabel:
    """One label for each text: a softmax over all of them.

    Args:
        labels: in the spec's order.
        smoothing: share of each answer that is spread over all labels.
    """

    per_token = False
    lowest = 0.12
    """Chosen on BANKING77's training part (docs/encoders.md)."""

    def __init__(self, labels: Sequence[str], smoothing: float):
        self.outputs, self.smoothing = list(labels), smoothing
        self._number = {label: number for number, label in enumerate(labels)}

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        return list(examples)

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        return {"input_ids": tokenizer.encode_framed(example.request), "labels": [self._number[example.answer]]}

    def gold(self, rows: Sequence[Row]) -> Any:
        """The indices of the labels [rows]."""
        return torch.tensor([row["labels"][0] for row in rows])

    def loss(self, logits: Any, gold: Any, weights: Any = None) -> Any:
        if weights is None:
            return F.cross_entropy(logits, gold, label_smoothing=self.smoothing)
        return (F.cross_entropy(logits, gold, label_smoothing=self.smoothing, reduction="none") * weights).mean()

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:  # noqa: ARG002 (the protocol)
        first, second = one.log_softmax(-1), other.log_softmax(-1)
        there = F.kl_div(first, second, log_target=True, reduction="batchmean")
        back = F.kl_div(second, first, log_target=True, reduction="batchmean")
        return (there + back) / 2

    def begin(self, network: Network, rows: Sequence[Row]) -> None:
        """Initialise each label's vector as the mean of its first texts; a label without texts keeps its random
        vector."""
        chosen: dict[int, list[Sequence[int]]] = {}
        for row in rows:
            if len(texts := chosen.setdefault(row["labels"][0], [])) < OF_A_LABEL:
                texts.append(row["input_ids"])
        begin_with_centres(network, chosen)

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        logits = logits_of(network, [network.placed(row["input_ids"]) for row in rows])
        losses = F.cross_entropy(logits, self.gold(rows), reduction="none").tolist()
        return [self.outputs[number] for number in logits.argmax(1).tolist()], losses

    def describe(self, row: Row) -> str:
        label: str = self.outputs[row["labels"][0]]
        return label

    def rarest(self, rows: Sequence[Row]) -> str:
        count = Counter(self.describe(row) for row in rows)
        rarest = min(count, key=lambda label: count[label])
        return f"the rarest label, {rarest}, has {count[rarest]}"


def begin_with_centres(network: Network, texts: dict[int, list[Sequence[int]]]) -> None:
    """Initialise the head: an output's vector is the mean of its texts; one without texts keeps its random vector.

    Args:
        texts: for an output's index, the token ids of its texts.
    """
    numbers = [number for number, each in texts.items() for _ in each]
    network.eval()
    vectors = vectors_of(network, [ids for each in texts.values() for ids in each])
    of = torch.tensor(numbers)
    for number in texts:
        network.head.weight.data[number] = F.normalize(vectors[of == number].mean(0), dim=-1).to(network.device)
