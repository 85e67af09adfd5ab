"""What an encoder is taught: the targets of a row, the loss, what the head begins as, and what its logits answer.

Everything else of a training knows no task: it asks the objective.
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
    """What the head's logits stand for, in their order."""
    per_token: bool
    """Whether the head reads each token's vector, and not the text's."""
    lowest: float
    """How many times the uppermost layer's learning rate the embeddings have."""

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        """What examples teach: each itself, or what stands in each window of it."""
        ...

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        """`input_ids`, and `labels`: the targets of a text, of which `IGNORED` ones are not learnt."""
        ...

    def gold(self, rows: Sequence[Row]) -> Any:
        """The targets of a batch [rows, …], filled up as its texts are."""
        ...

    def loss(self, logits: Any, gold: Any) -> Any:
        """What is made small: the mean over the targets of a batch, in nats.

        Args:
            logits: of the network [rows, …].
            gold: as `gold` gives it.
        """
        ...

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:
        """How far two readings of each text are apart, in nats: the mean of both Kullback-Leibler divergences between
        the probabilities they give, over the targets (Liang et al. 2021, "R-Drop").

        Args:
            one, other: logits of the same rows [rows, …].
            gold: their targets.
        """
        ...

    def begin(self, network: Network, rows: Sequence[Row]) -> None:
        """Give the head of a network that was not trained yet what the rows tell."""
        ...

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        """(the answer to each row in canonical form, the loss of its right one in nats, summed over its targets)."""
        ...

    def told(self, row: Row) -> str:
        """What a row teaches, for a human."""
        ...

    def rarest(self, rows: Sequence[Row]) -> str:
        """Which output the fewest rows teach, for a human."""
        ...


def objective_of(
    task: Task, settings: EncoderSpec, examples: Sequence[Example] = (), tokenizer: TextTokenizer | None = None
) -> Objective:
    """The objective that teaches a task.

    Args:
        examples, tokenizer: of a task that fills records, which reads as much at once as the encoder does, its training
            part and the encoder's tokenizer.

    Raises:
        UserError: an encoder can't be taught it.
    """
    if isinstance(task, ExtractTask):
        from tunewright.training.encoders.spans import SpanTags

        assert tokenizer, "values are marked by tokens"
        return SpanTags(task, settings, examples, tokenizer)
    if isinstance(task, MultiLabelTask):
        return SomeLabels(task, settings.label_smoothing)
    return OneLabel(task.answers, settings.label_smoothing)


class OneLabel:
    """One label for each text: a softmax over all of them.

    Args:
        labels: in the spec's order.
        smoothing: share of each answer that is taught as any label.
    """

    per_token = False
    lowest = 0.12
    """Chosen on BANKING77's training part (docs/encoders.md)."""

    def __init__(self, labels: Sequence[str], smoothing: float):
        self.outputs, self._smoothing = list(labels), smoothing
        self._number = {label: number for number, label in enumerate(labels)}

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        return list(examples)

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        return {"input_ids": tokenizer.encode_framed(example.request), "labels": [self._number[example.answer]]}

    def gold(self, rows: Sequence[Row]) -> Any:
        """The numbers of the labels [rows]."""
        return torch.tensor([row["labels"][0] for row in rows])

    def loss(self, logits: Any, gold: Any) -> Any:
        return F.cross_entropy(logits, gold, label_smoothing=self._smoothing)

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:  # noqa: ARG002 (the protocol)
        first, second = one.log_softmax(-1), other.log_softmax(-1)
        there = F.kl_div(first, second, log_target=True, reduction="batchmean")
        back = F.kl_div(second, first, log_target=True, reduction="batchmean")
        return (there + back) / 2

    def begin(self, network: Network, rows: Sequence[Row]) -> None:
        """The mean vector of the first texts of each label; one without texts keeps what it was drawn as."""
        chosen: dict[int, list[Sequence[int]]] = {}
        for row in rows:
            if len(texts := chosen.setdefault(row["labels"][0], [])) < OF_A_LABEL:
                texts.append(row["input_ids"])
        begin_with_centres(network, chosen)

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        logits = logits_of(network, [network.placed(row["input_ids"]) for row in rows])
        losses = F.cross_entropy(logits, self.gold(rows), reduction="none").tolist()
        return [self.outputs[number] for number in logits.argmax(1).tolist()], losses

    def told(self, row: Row) -> str:
        label: str = self.outputs[row["labels"][0]]
        return label

    def rarest(self, rows: Sequence[Row]) -> str:
        count = Counter(self.told(row) for row in rows)
        rarest = min(count, key=lambda label: count[label])
        return f"the rarest label, {rarest}, has {count[rarest]}"


def begin_with_centres(network: Network, texts: dict[int, list[Sequence[int]]]) -> None:
    """Give the head the mean vector of some texts for each output; one without texts keeps what it was drawn as.

    Args:
        texts: for the number of an output, the token ids of its texts.
    """
    numbers = [number for number, each in texts.items() for _ in each]
    network.eval()
    vectors = vectors_of(network, [ids for each in texts.values() for ids in each])
    of = torch.tensor(numbers)
    for number in texts:
        network.head.weight.data[number] = F.normalize(vectors[of == number].mean(0), dim=-1).to(network.device)
