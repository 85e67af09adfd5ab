"""Draws a project's batches before there is a run: encodes its rows and draws as a training would."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.inference.runtimes.prefix import prefix_of_all
from tunewright.models.catalogue import catalogue
from tunewright.models.chat import ChatTemplate, token_counter
from tunewright.models.resolve import resolve_tokenizer
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, task_of
from tunewright.tasks.base import chunked
from tunewright.training.engine.packing import pack
from tunewright.training.loop.distributed import dealt
from tunewright.training.loop.encode import IGNORED, Row, encode_examples
from tunewright.training.loop.passes import passes_of

_EXAMPLES = 4000
"""Examples that are encoded; batches drawn from more look no different."""
BATCHES = 200
_EMBEDDED = "smollm2-135m"


@dataclass(frozen=True)
class DrawnBatches:
    """Batches drawn from the training rows."""

    tokenizer: str
    """The tokenizer that counted, by its catalogue name or folder."""
    heaviest: list[Row]
    middle: list[Row]
    tokens: float
    """Mean tokens that a batch runs; a shared prefix counts once."""
    longest: int
    """Tokens of the longest example, answer included."""
    prefix: int
    """Tokens that all examples begin with."""
    mean: float
    """Mean tokens of an example, answer included."""
    learnt: float
    """Mean learnt tokens of an example: its whole answer, or the tokens that decide."""
    is_whole: bool
    """Whether a batch goes through in one pass on a CPU too, whatever its length."""

    def heaviest_pass(self, processes: int = 1) -> list[Row]:
        """The rows of one process in the heaviest pass of the heaviest batch on a CPU. As in a training, a pass has the
        rows that follow each other, long or short."""
        rows, size = self.heaviest, len(self.heaviest)
        own = self.mean - self.prefix
        passes = 1 if self.is_whole else passes_of(self.prefix, own, size, processes, size)
        if passes == processes == 1:
            return rows
        cuts = range(0, size, -(-size // passes))
        shares = [share for start in cuts for share in dealt(rows[start : start + cuts.step], processes) if share]
        return max(shares, key=lambda share: pack(share)["input_ids"].numel())


def decoder_examples(spec: Spec, *parts: Iterable[Example]) -> list[list[Example]]:
    """The training examples that a decoder's training makes of the rows of each part. The tokenizer is loaded only if
    the task reads in chunks; see `draw_batches`.

    Raises:
        UserError: the base model's tokenizer can't be found.
    """
    task, counter = task_of(spec.task), cache(lambda: token_counter(_tokenizer_of(spec)[1]))
    return [chunked(task, part, lambda text: counter()(text)) for part in parts]


def draw_batches(spec: Spec, examples: Sequence[Example]) -> DrawnBatches:
    """Encode training examples and draw batches from them.

    If the base model's tokenizer is not on this machine and can't be fetched, the default model's counts.

    Args:
        examples: as `decoder_examples` returns them.

    Raises:
        UserError: an example is too long or would teach something other than its answer.
    """
    name, tokenizer, template = _tokenizer_of(spec)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    stride = max(1, len(examples) // _EXAMPLES)
    rows = encode_examples(examples[::stride], task, template, tokenizer, spec.train.max_length, spec.train.loss)
    order = random.Random(spec.seed).sample(rows, len(rows))
    size = min(spec.train.batch_size, len(rows))
    drawn = [order[start : start + size] for start in range(0, len(order) - size + 1, size)][:BATCHES]
    weighed = sorted((pack(batch)["input_ids"].numel(), number) for number, batch in enumerate(drawn))
    ids = [row["input_ids"] for row in rows]
    return DrawnBatches(
        tokenizer=name,
        heaviest=drawn[weighed[-1][1]],
        middle=drawn[weighed[len(weighed) // 2][1]],
        tokens=sum(tokens for tokens, _ in weighed) / len(weighed),
        longest=max(len(row["input_ids"]) for row in rows),
        prefix=prefix_of_all(ids),
        mean=fmean(map(len, ids)),
        learnt=fmean(sum(label != IGNORED for label in row["labels"]) for row in rows),
        is_whole=spec.train.gradient_checkpointing,
    )


def _tokenizer_of(spec: Spec) -> tuple[str, TextTokenizer, ChatTemplate]:
    try:
        folder, template = resolve_tokenizer(spec.model, spec.folder)
        return spec.model, TextTokenizer(folder), template
    except UserError:
        entry = catalogue().get(spec.model)
        if entry is None or entry.remote_code:
            raise
    folder, _ = resolve_tokenizer(_EMBEDDED, spec.folder)
    return _EMBEDDED, TextTokenizer(folder), ChatTemplate.named(entry.template)
