"""Prepares a training: encodes and audits a dataset's rows, and the validation part."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data import evenly, load_dataset
from tunewright.inference.decoding.writing import max_answer_tokens
from tunewright.models.architectures import longest_exact, longest_sequence
from tunewright.models.chat import answer_tokens, token_counter
from tunewright.models.encoders import unable
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextPrompt, TextTokenizer
from tunewright.tasks import Example, LabelTrie, task_of
from tunewright.tasks.base import FreeText, chunked
from tunewright.training.diagnosis.history import TrainingFacts
from tunewright.training.loop.answering import answering_of
from tunewright.training.loop.encode import IGNORED, Row, encode_examples
from tunewright.training.loop.soup_training import Soup
from tunewright.training.loop.swapped import with_copies
from tunewright.training.loop.validation import MOST, ValidationPart


class Encoder:
    """Encodes examples for one spec's base model.

    Raises:
        UserError: the base model can't be found, or runtimes disagree on requests of `train.max_length` tokens.
    """

    def __init__(self, spec: Spec):
        self._settings = spec.train
        self.base = resolve(spec.model, spec.folder)
        config = json.loads((self.base.folder / "config.json").read_text("utf-8"))
        _check_length(config, self.base.folder, spec.train.max_length)
        self._context = longest_sequence(config)
        self._vocabulary = config.get("vocab_size") or math.inf
        self._tokenizer = TextTokenizer(self.base.folder)
        self._task = task_of(spec.task).fitted(self._tokenizer.encode_verbatim)

    def training_examples(self, examples: Sequence[Example]) -> list[Example]:
        """See `tunewright.tasks.base.chunked`."""
        return chunked(self._task, examples, token_counter(self._tokenizer))

    def rows(self, training_examples: Sequence[Example]) -> list[Row]:
        """Encode and audit training examples; see `tunewright.training.loop.encode.encode_examples`.

        Raises:
            UserError: an example is longer than the model's context, or leaves no room for an answer, or as there.
        """
        rows = encode_examples(
            training_examples,
            self._task,
            self.base.template,
            self._tokenizer,
            self._settings.max_length,
            self._settings.loss,
        )
        self._check_tokens(rows)
        longest = max((len(row["input_ids"]) for row in rows), default=0)
        if longest > self._context:
            raise UserError(
                f"The longest example has {longest} tokens; this model reads {self._context}.",
                where=self.base.folder,
                fix="Shorten such inputs, or choose a model with a longer context: tunewright models ls",
            )
        self._check_room(rows)
        return rows

    def _check_room(self, rows: Sequence[Row]) -> None:
        """Refuse prompts that leave no room for the longest answer: the bundle would not take them either."""
        prompt = max((_prompt_tokens(row) for row in rows), default=0)
        answer = max_answer_tokens(self._task.constraint, _longest_answer(rows))
        if prompt + answer > self._context:
            shorter = "lower task.max_tokens, " if isinstance(self._task.constraint, FreeText) else ""
            raise UserError(
                f"The longest prompt has {prompt} tokens and an answer up to {answer}; this model reads "
                f"{self._context} together.",
                where=self.base.folder,
                fix=f"Shorten such inputs, {shorter}or choose a model with a longer context: tunewright models ls",
            )

    def _check_tokens(self, rows: Sequence[Row]) -> None:
        """Refuse tokens that the model lacks. A tokenizer may have such tokens (Gemma 3's does) as long as no text
        contains them."""
        largest = max((max(row["input_ids"], default=0) for row in rows), default=0)
        if largest >= self._vocabulary:
            raise UserError(
                "The tokenizer belongs to another model.",
                where=self.base.folder / "tokenizer.json",
                why=f"It gives the examples token {largest}; the model has {self._vocabulary} tokens.",
                fix="Copy the model again, with its own tokenizer.json.",
            )

    def part(self, training_examples: Sequence[Example], most: int = MOST) -> ValidationPart:
        """The validation part: at most `most` of the training examples, evenly spaced."""
        some = evenly(training_examples, most)
        rows = self.rows(some)
        prompts = [
            TextPrompt(
                self.base.template.encode_prompt(self._task.prompt(example.request), self._tokenizer), example.request
            )
            for example in some
        ]
        answering = answering_of(self._task, self.base.template, self._tokenizer, _longest_answer(rows))
        return ValidationPart(some, rows, prompts, answering, self._task, self._settings)

    def facts(self, train: Sequence[Example], rows: Sequence[Row], part: ValidationPart | None) -> TrainingFacts:
        """Counts of the training examples and the validation part.

        Args:
            rows: the training examples, encoded.
        """
        answers = [example.answer for example in train]
        held = part.answers if part else []
        return TrainingFacts.of(
            self._task, answers, held, rows, fmean(map(self._tokens_of(), answers)), part.groups if part else []
        )

    def _tokens_of(self) -> Callable[[str], int]:
        """A function that counts the tokens that teach an answer if nothing is masked."""
        known = answer_tokens(self._task, self.base.template, self._tokenizer)
        if not known:
            # Each record is different, so its text is counted; the end of a turn is counted once.
            brief = self._task.written("{}")
            encoded = self.base.template.encode_answer(self._task.prompt("x"), brief, self._tokenizer)
            end = len(encoded) - len(self._tokenizer.encode_verbatim(brief.content))
            return lambda answer: len(self._tokenizer.encode_verbatim(self._task.written(answer).content)) + end
        if self._settings.loss == "tokens":
            return lambda answer: len(known[answer])
        trie = LabelTrie(list(known.values()))
        return lambda answer: sum(len(offered) > 1 for offered in trie.choices(known[answer]))


def prepare(spec: Spec, split: Path, home: Path) -> Soup:
    """Encode the dataset in `split` for a training.

    Args:
        home: the folder to train the adapters in.

    Raises:
        UserError: only encoders do the task, or an example is too long or would teach something other than its answer.
    """
    if error := unable(spec.task.kind, spec.model_name, encoder=False):
        raise error
    dataset = load_dataset(split)
    encoder = Encoder(spec)
    train = encoder.training_examples(with_copies(spec, dataset.train))
    validation = encoder.training_examples(dataset.validation)
    part = encoder.part(validation) if validation else None
    rows = encoder.rows(train)
    facts = encoder.facts(train, rows, part)
    return Soup(spec, encoder.base, rows, part, facts, home)


def _prompt_tokens(row: Row) -> int:
    """Tokens before the first that is learnt."""
    return next((place for place, label in enumerate(row["labels"]) if label != IGNORED), len(row["labels"]))


def _longest_answer(rows: Sequence[Row]) -> int:
    """Tokens that are learnt of the longest answer."""
    return max((sum(label != IGNORED for label in row["labels"]) for row in rows), default=0)


def _check_length(config: Mapping[str, Any], folder: Path, max_length: int) -> None:
    """Refuse a `train.max_length` beyond which runtimes encode positions differently."""
    longest = longest_exact(config)
    if longest and longest < max_length:
        raise UserError(
            f"train.max_length = {max_length} is longer than the {longest} tokens this model was first trained with.",
            where=folder,
            why="Longer sequences get other position encodings as a whole, and runtimes switch at different lengths.",
            fix=f"Type: tunewright run … train.max_length={longest}",
        )
