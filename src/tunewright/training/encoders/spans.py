"""The objective for records: a tag for each token, and a choice for each field whose values the schema lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from tunewright.config.sections import EncoderSpec
from tunewright.models.chat import token_counter
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example
from tunewright.tasks.base import Unfit
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.spans.align import Aligned, Aligner, records, within
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.literal import Literal, literal, require_literal, summary
from tunewright.tasks.spans.reader import SpanReader
from tunewright.tasks.spans.tags import TagSet
from tunewright.training.encoders.network import Network
from tunewright.training.encoders.passes import rows_of
from tunewright.training.loop.encode import IGNORED, Row


class SpanExample(Example):
    """A training example made of one window of a document."""

    aligned: Aligned
    """The places of its values."""


class SpanTags:
    """Values as spans of the text: a softmax over the tags of each token.

    Args:
        task: the task, which reads as much at once as the encoder does.
        settings: the encoder's training settings.
        examples: the training part; it determines how fields are read and which places of a value are meant.

    Raises:
        UserError: a field can't be read from a text, or most of its values do not occur in their texts.
    """

    per_token = True
    lowest = 1.0

    def __init__(self, task: ExtractTask, settings: EncoderSpec, examples: Sequence[Example], tokenizer: TextTokenizer):
        self._task, self._tokenizer, self.smoothing = task, tokenizer, settings.label_smoothing
        fields = fields_of(task.form)
        self._aligner = Aligner([each for each in fields if not each.choices], examples)
        self.tags = TagSet(fields, self._aligner.kinds, self._aligner.habits)
        self.outputs = self.tags.outputs
        self.literal = self._literal(examples)
        require_literal(self.literal)

    def _literal(self, examples: Sequence[Example]) -> list[Literal]:
        known, lost = [], []
        for example in examples:
            record, framed = json.loads(example.answer), self._tokenizer.framed(example.request)
            known.append(record)
            lost.append(self.tags.targets(self._aligner.align(example), record, framed.offsets, framed.text).lost)
        return literal(self.tags.fields, known, lost)

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        return [training_example for example in examples for training_example in self._training_examples(example)]

    def _training_examples(self, example: Example) -> Iterator[Example]:
        places = self._task.places(example.request, token_counter(self._tokenizer))
        if len(places) == 1:
            yield example
            return
        whole, windows = self._aligner.align(example), [example.request[start:end] for start, end in places]
        parts = [within(whole, start, end) for start, end in places]
        shared = records(self.tags.fields, self.tags.habits, json.loads(example.answer), parts, windows)
        for window, part, record in zip(windows, parts, shared, strict=True):
            plain = Example.of(window, self._canonical(record), example.meta)
            weight = example.importance
            yield SpanExample(messages=plain.messages, meta=plain.meta, aligned=part, weight=weight)

    def row(self, example: Example, tokenizer: TextTokenizer) -> Row:
        """Also `text`, its tokens' `offsets`, and `whole`: whether the text is a whole document rather than a
        window."""
        framed, record = tokenizer.framed(example.request), json.loads(example.answer)
        aligned = example.aligned if isinstance(example, SpanExample) else self._aligner.align(example)
        taught = self.tags.targets(aligned, record, framed.offsets, framed.text)
        return {
            "input_ids": list(framed),
            "labels": [*taught.tags, *taught.choices],
            "text": framed.text,
            "offsets": framed.offsets,
            "whole": not isinstance(example, SpanExample),
        }

    def gold(self, rows: Sequence[Row]) -> Any:
        """The tags [rows, tokens], followed by the choices [rows, choices], as one tensor."""
        choices = len(self.tags.choices)
        longest = max(len(row["input_ids"]) for row in rows)
        return torch.tensor(
            [
                [
                    *row["labels"][: len(row["input_ids"])],
                    *[IGNORED] * (longest - len(row["input_ids"])),
                    *row["labels"][len(row["input_ids"]) :],
                ]
                for row in rows
            ]
        ).view(len(rows), longest + choices)

    def loss(self, logits: Any, gold: Any, weights: Any = None) -> Any:
        """The mean over all targets of the batch."""
        count = (gold != IGNORED).sum().clamp(min=1)
        if weights is None:
            return self._sum(logits, gold) / count
        rows = [self._sum(one, other) for one, other in zip(logits.split(1), gold.split(1), strict=True)]
        return (torch.stack(rows) * weights).sum() / count

    def _sum(self, logits: Any, gold: Any) -> Any:
        return sum(
            F.cross_entropy(scores, targets, reduction="sum", ignore_index=IGNORED, label_smoothing=self.smoothing)
            for scores, targets in self._parts(logits, gold)
        )

    def disagreement(self, one: Any, other: Any, gold: Any) -> Any:
        total = 0.0
        for (mine, targets), (theirs, _) in zip(self._parts(one, gold), self._parts(other, gold), strict=True):
            taught = targets != IGNORED
            first, second = mine[taught].log_softmax(-1), theirs[taught].log_softmax(-1)
            there = F.kl_div(first, second, log_target=True, reduction="sum")
            total = total + (there + F.kl_div(second, first, log_target=True, reduction="sum")) / 2
        return total / (gold != IGNORED).sum().clamp(min=1)

    def _parts(self, logits: Any, gold: Any) -> Iterator[tuple[Any, Any]]:
        """(logits [targets, outputs], targets) for the tags, then for each choice."""
        tokens = logits.shape[1]
        yield logits[:, :, : self.tags.size].flatten(0, 1), gold[:, :tokens].flatten()
        for number, each in enumerate(self.tags.choices):
            yield logits[:, 0, each.columns], gold[:, tokens + number]

    def begin(self, network: Network, rows: Sequence[Row]) -> None:  # noqa: ARG002 (the same for every objective)
        """The head keeps its random values. The network's folder says what training's records have in common."""
        network.habits = self.tags.habits

    def answered(self, network: Network, rows: Sequence[Row]) -> tuple[list[str], list[float]]:
        answers, losses = [], []
        logits = rows_of(network, [network.placed(row["input_ids"]) for row in rows])
        for row, scores in zip(rows, logits, strict=True):
            read = SpanReader(self.tags, scores.numpy(), row["offsets"], row["text"]).read(whole=row["whole"])
            answers.append(self._canonical(read.record))
            gold = self.gold([row])
            losses.append(
                float(
                    sum(
                        F.cross_entropy(part, targets, reduction="sum", ignore_index=IGNORED)
                        for part, targets in self._parts(scores[None], gold)
                    )
                )
            )
        return answers, losses

    def _canonical(self, record: dict[str, Any]) -> str:
        text = json.dumps(record, ensure_ascii=False)
        try:
            return self._task.of_chunk(text)
        except Unfit:
            return self._task.fitting_part(text, is_chunk=True)

    def describe(self, row: Row) -> str:
        read = len(row["input_ids"])
        return self.tags.describe(row["labels"][:read], row["labels"][read:], row["offsets"], row["text"])

    def rarest(self, rows: Sequence[Row]) -> str:
        begun = {kind.begin: f"{kind.path} as {kind.reading}" for kind in self.tags.kinds}
        count = Counter(
            begun[label] for row in rows for label in row["labels"][: len(row["input_ids"])] if label in begun
        )
        rarest = min(begun.values(), key=lambda name: count[name])
        return f"the rarest value, {rarest}, occurs {count[rarest]} times; {summary(self.literal)}"
