"""Predictors that write: free text, or records under a grammar."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Any

from tunewright.inference.calibration import UNCALIBRATED, Calibration
from tunewright.inference.decoding.free_text import StableText, TextRules
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.protocols import AnyModel, DecodingRules, Written
from tunewright.inference.decoding.writing import begin_generation, generate
from tunewright.inference.predictors.base import Answer, GenerationConfig, Pieces, Token, settled
from tunewright.inference.predictors.prompted import PromptBatcher, PromptedModel
from tunewright.models.chat import ChatTemplate
from tunewright.models.tokenizer import IncrementalDecoder, TextTokenizer
from tunewright.tasks import Example, Task
from tunewright.tasks.base import JsonRecord, Unfit
from tunewright.tasks.generate import cut_at_stop
from tunewright.tasks.measures import value_spans
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.windows import joined, lacking


class TextGenerator(PromptedModel):
    """Writes free text. Its confidence is the geometric mean of the probabilities of the answer's tokens.

    Args:
        max_tokens: tokens after which an answer is cut.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: TextTokenizer,
        rules: TextRules,
        max_tokens: int,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        self._text_tokenizer, self._rules, self._decode = tokenizer, rules, tokenizer.decode
        self.longest_answer = max_tokens

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        (prompt,) = prompts
        return self._answer(prompt, generate(self._rules, self._model, prompt, self.longest_answer))

    def _answers(self, prompts: Sequence[Sequence[list[int]]], batcher: PromptBatcher) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return list(map(self._answer, alone, batcher.generate(self._rules, alone, self.longest_answer)))

    def stream(self, prompt: Sequence[int], config: GenerationConfig) -> Pieces:
        """The text of an answer piece by piece, and then the answer.

        Raises:
            GrammarError: the schema has no grammar. This is raised at once, before the first piece.
        """
        max_tokens = min(config.max_tokens or self.longest_answer, self.longest_answer)
        rules: DecodingRules = self._rules.ending_at(config.stop)
        if config.schema is not None:
            rules = RecordGrammar(self._text_tokenizer, config.schema, self._rules.end)
        return self._pieces(*begin_generation(rules, self._model, prompt, max_tokens), prompt, config.stop)

    def _pieces(
        self, writer: Written, steps: Generator[None, None, None], prompt: Sequence[int], stop: Sequence[str]
    ) -> Pieces:
        stable, decoder, decoded = StableText((*self._rules.stop, *stop)), IncrementalDecoder(self._decode), 0
        with closing(steps):
            for _ in steps:
                if writer.done:
                    continue
                fresh = "".join(decoder.add(token)[0] for token in writer.ids[decoded:])
                decoded = len(writer.ids)
                if stable.ends_in(fresh):  # the rules of a schema know no stop texts
                    break
                if piece := stable.add(fresh):
                    yield piece
        whole = self._answer(prompt, writer)
        answer = replace(whole, text=cut_at_stop(whole.text, stop).rstrip())
        if rest := answer.text[stable.length :]:
            yield rest
        yield answer

    def _answer(self, prompt: Sequence[int], writer: Written) -> Answer:
        confidence = math.exp(fmean(writer.log_probabilities)) if writer.ids else 1.0
        text, ends = _text_and_ends(self._decode, writer.ids)
        tokens = _tokens(text, ends, writer.log_probabilities)
        text = self._task.canonical(text)
        return self._calibrated(
            Answer(text, confidence, len(prompt), len(writer.ids) + 1, cut=writer.cut, tokens=tokens)
        )


class RecordReader(PromptedModel):
    """Writes a record under a grammar, taking the likeliest allowed token at each place.

    Its confidence is the product of the probabilities of the record's tokens, without those of values that no metric
    looks at. If the request was read in chunks, it is the product over the values that were taken from them. It is 0 if
    the canonical form refuses the record; see `settled`.

    Args:
        grammar: the grammar of the record of one chunk.
        whole: the grammar of a whole record.
        max_tokens: tokens after which a record is ended.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: TextTokenizer,
        grammar: RecordGrammar,
        whole: RecordGrammar,
        max_tokens: int,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        assert isinstance(task.constraint, JsonRecord)
        self._grammar, self._whole, self._decode = grammar, whole, tokenizer.decode
        self._schema, self._unjudged = task.constraint.schema, task.constraint.unjudged
        self.longest_answer = max_tokens

    def answer_confined(self, prompt: Sequence[int], schema: Mapping[str, Any]) -> Answer:
        """The answer to a request that is read whole, as a record of a narrower schema.

        Raises:
            GrammarError: the schema has no grammar.
        """
        return self._calibrated(self._chunk_answer(prompt, self._whole.of(schema)))

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        grammar = self._grammar_of(prompts)
        return self._joined(prompts, [self._chunk_answer(prompt, grammar) for prompt in prompts])

    def _answers(self, prompts: Sequence[Sequence[list[int]]], batcher: PromptBatcher) -> list[Answer]:
        of_chunks: dict[int, list[Answer]] = {}
        for grammar in (self._whole, self._grammar):
            some = [
                (n, prompt) for n, each in enumerate(prompts) for prompt in each if self._grammar_of(each) is grammar
            ]
            writers = batcher.generate(grammar, [prompt for _, prompt in some], self.longest_answer)
            for (number, prompt), writer in zip(some, writers, strict=True):
                of_chunks.setdefault(number, []).append(self._of_writer(prompt, writer, grammar))
            if self._whole is self._grammar:
                break
        return [self._joined(each, of_chunks[number]) for number, each in enumerate(prompts)]

    def _grammar_of(self, prompts: Sequence[Sequence[int]]) -> RecordGrammar:
        """The grammar for each chunk of a request."""
        return self._whole if len(prompts) == 1 else self._grammar

    @cached_property
    def _form(self) -> RecordForm:
        return RecordForm(self._schema)

    def _joined(self, prompts: Sequence[Sequence[int]], of_chunks: list[Answer]) -> Answer:
        """Join the answers to the chunks of a request."""
        if len(prompts) == 1:
            return self._calibrated(of_chunks[0])
        record, fields = joined([(json.loads(each.text), each.fields) for each in of_chunks], self._form)
        if not self._fits(record):
            # No chunk had a required field, or the joined lists are too long.
            first = self._chunk_answer(prompts[0], self._whole)
            whole = json.loads(first.text)
            absent = lacking(record, whole, self._form.apart)
            record, fields = joined([(record, fields), (absent, first.fields)], self._form)
            if not self._fits(record):
                record, fields = whole, dict(first.fields)
            of_chunks.append(first)
        text, confidence, of_fields = settled(self._task, json.dumps(record), math.prod(fields.values()), fields)
        if not all(each.confidence for each in of_chunks):
            confidence = 0.0
        return self._calibrated(
            Answer(
                text,
                confidence,
                sum(each.prompt_tokens for each in of_chunks),
                sum(each.answer_tokens for each in of_chunks),
                of_fields,
                any(each.cut for each in of_chunks),
            )
        )

    def _fits(self, record: Mapping[str, Any]) -> bool:
        try:
            self._task.canonical(json.dumps(record))
        except Unfit:
            return False
        return True

    def _chunk_answer(self, prompt: Sequence[int], grammar: RecordGrammar) -> Answer:
        return self._of_writer(prompt, generate(grammar, self._model, prompt, self.longest_answer), grammar)

    def _of_writer(self, prompt: Sequence[int], writer: Written, grammar: RecordGrammar) -> Answer:
        text, ends = _text_and_ends(self._decode, writer.ids)
        of_fields = _log_confidences(text, ends, writer.log_probabilities)
        unjudged = sum(value for path, value in of_fields.items() if path in self._unjudged)
        confidence = math.exp(sum(writer.log_probabilities) - unjudged)
        # A chunk's form requires nothing, so it would leave out required fields that are null or empty.
        kept, confidence, fields = settled(
            self._task,
            text,
            confidence,
            {path: math.exp(value) for path, value in of_fields.items()},
            is_chunk=grammar is not self._whole,
        )
        return Answer(
            kept,
            confidence,
            len(prompt),
            len(writer.ids) + 1,
            fields,
            writer.cut,
            tokens=_tokens(text, ends, writer.log_probabilities),
        )


def _text_and_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> tuple[str, list[int]]:
    """(the text of some tokens, for each token the number of characters up to its end)."""
    text, decoder = decode(ids), IncrementalDecoder(decode)
    return text, [decoder.add(token)[1] for token in ids]


def _tokens(text: str, ends: Sequence[int], log_probabilities: Sequence[float]) -> list[Token]:
    """The tokens of an answer; for `ends` see `_log_confidences`."""
    starts = [0, *ends[:-1]]
    return [
        Token(text[start:end], log_probability)
        for start, end, log_probability in zip(starts, ends, log_probabilities, strict=True)
    ]


def _log_confidences(text: str, ends: Sequence[int], log_probabilities: Sequence[float]) -> dict[str, float]:
    """The log-probability of the values at each path.

    Args:
        ends: for each token, the number of characters up to its end.
    """
    spans = list(value_spans(text))
    total = dict.fromkeys((path for path, _, _ in spans), 0.0)
    start = place = 0
    for end, log_probability in zip(ends, log_probabilities, strict=True):
        # A token that ends a value may begin the next one. It counts for the value that it ends.
        while place < len(spans) and spans[place][2] <= start:
            place += 1
        if place < len(spans) and spans[place][1] < end:
            total[spans[place][0]] += log_probability
        start = end
    return total
