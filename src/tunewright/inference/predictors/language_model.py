"""A language model that answers: by scoring labels, or by writing; the same for torch and ONNX Runtime, tuned
and untuned."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tunewright.inference.calibration import UNCALIBRATED, Calibration, Floats
from tunewright.inference.decoding.following import Written
from tunewright.inference.decoding.free_text import Shown, TextRules
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.writing import AnyModel, DecodingRules, begun, room_for, rules_of, written
from tunewright.inference.predictors.base import Answer, GenerationConfig, Pieces, Token
from tunewright.models.chat import ChatTemplate, Tokenizer, answer_tokens, end_token, token_counter
from tunewright.models.tokenizer import Reading, TextTokenizer
from tunewright.tasks import Example, LabelTrie, Task, score_labels
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf, Unfit
from tunewright.tasks.generate import until
from tunewright.tasks.measures import value_spans
from tunewright.tasks.multi_label import labels_in
from tunewright.tasks.windows import joined

_SHOT_TOKENS = 2048
"""Of all the examples that are shown: more take longer to read than anybody would wait."""


@runtime_checkable
class LanguageModel(Protocol):
    """A predictor whose prompt can be measured before it answers."""

    longest_answer: int
    """Tokens that an answer may have."""

    def prompts(self, request: str) -> list[list[int]]: ...

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer: ...

    def answer(self, request: str) -> Answer: ...

    def answers(self, requests: Sequence[str], together: Together) -> list[Answer]:
        """As `answer` to each, found together.

        Args:
            together: the same model as the predictor's own.
        """
        ...


class Together(Protocol):
    """A model that is asked about many prompts at once."""

    def scores(self, trie: LabelTrie, prompts: Sequence[list[int]], temperature: float | None) -> list[Floats]:
        """As `tunewright.tasks.score_labels` of each."""
        ...

    def written(self, rules: DecodingRules, prompts: Sequence[list[int]], most: int) -> Sequence[Written]:
        """As `tunewright.inference.decoding.writing.written` of each."""
        ...


def language_model(
    model: AnyModel,
    task: Task,
    template: ChatTemplate,
    tokenizer: TextTokenizer,
    folder: Path,
    longest: int,
    shots: Sequence[Example] = (),
    calibration: Calibration = UNCALIBRATED,
) -> LanguageModel:
    """A predictor for the task.

    Args:
        folder: of the tokenizer.
        longest: tokens of the longest answer in the training data.
        shots: solved examples to show before each request (few-shot); none for a tuned model.
    """
    match task.constraint:
        case OneOf():
            return LabelScorer(model, task, template, tokenizer, shots, calibration)
        case SomeOf():
            raise TypeError("models that write are refused before: see tunewright.models.encoders.unable")
        case JsonRecord() | FreeText() as constraint:
            end, most = end_token(task, template, tokenizer), room_for(constraint, longest)
            rules = rules_of(constraint, folder, tokenizer, end)
            if isinstance(rules, TextRules):
                return TextGenerator(model, task, template, tokenizer, folder, rules, most, shots, calibration)
            whole = rules
            if isinstance(constraint, JsonRecord) and constraint.chunk != constraint.schema:
                whole = RecordGrammar(folder, constraint.schema, end)
            return RecordReader(model, task, template, tokenizer, rules, whole, most, shots, calibration)


class _Prompted(ABC):
    """A language model that answers prompts of its task.

    Args:
        shots: solved examples to show before each request (few-shot); none for a tuned model.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        shots: Sequence[Example],
        calibration: Calibration,
    ):
        self._model, self._task, self._template, self._tokenizer = model, task, template, tokenizer
        self._shots, self._calibration = shots, calibration

    def prompts(self, request: str) -> list[list[int]]:
        """The token ids of each portion in which a request is read; of most tasks one."""
        chunks = self._task.chunks(request, token_counter(self._tokenizer))
        return [
            self._template.encode_prompt(self._task.prompt(chunk, self._shots), self._tokenizer) for chunk in chunks
        ]

    def answer(self, request: str) -> Answer:
        return self.answer_prompts(self.prompts(request))

    def answers(self, requests: Sequence[str], together: Together) -> list[Answer]:
        return self._answers([self.prompts(request) for request in requests], together)

    @abstractmethod
    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        """The answer to a request of which these are the `prompts`."""

    @abstractmethod
    def _answers(self, prompts: Sequence[Sequence[list[int]]], together: Together) -> list[Answer]:
        """`answer_prompts` of several requests."""

    def _calibrated(self, answer: Answer) -> Answer:
        """A written answer with a confidence that means what it says."""
        sure = answer.confidence or 0.0
        return replace(answer, confidence=self._calibration.of_answer(sure), uncalibrated=sure)


class LabelScorer(_Prompted):
    """Scores every label after the prompt and answers the likeliest."""

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        self._labels = task.answers
        sequences = answer_tokens(task, template, tokenizer)
        self._trie = LabelTrie(list(sequences.values()))
        self._token_counts = {label: len(ids) for label, ids in sequences.items()}
        self.longest_answer = max(self._token_counts.values())

    def log_probabilities(self, prompt: Sequence[int]) -> Floats:
        """log P(label | prompt) of every label before calibration, in the order of the labels."""
        return score_labels(self._trie, self._model, prompt)

    def probabilities(self, prompt: Sequence[int]) -> dict[str, float]:
        """P(label | prompt) of every label; they sum to one."""
        return self.with_probabilities(prompt)[1]

    def with_probabilities(self, prompt: Sequence[int]) -> tuple[Answer, dict[str, float]]:
        """The answer, and P(label | prompt) of every label, for which every branch has to be asked."""
        scores = self.log_probabilities(prompt)
        found = self._calibration.of_labels(scores)
        return self._answer(prompt, scores), dict(zip(self._labels, found.tolist(), strict=True))

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        (prompt,) = prompts
        return self._answer(prompt, score_labels(self._trie, self._model, prompt, self._calibration.temperature))

    def _answers(self, prompts: Sequence[Sequence[list[int]]], together: Together) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return list(map(self._answer, alone, together.scores(self._trie, alone, self._calibration.temperature)))

    def _answer(self, prompt: Sequence[int], scores: Floats) -> Answer:
        best = int(np.argmax(scores))
        label, confidence = self._labels[best], float(self._calibration.of_labels(scores)[best])
        return Answer(
            label,
            confidence,
            len(prompt),
            self._token_counts[label],
            uncalibrated=math.exp(scores[best]),
            tokens=(Token(label, math.log(confidence)),),
        )


class TextGenerator(_Prompted):
    """Writes free text. How sure it is of an answer is the geometric mean of the probabilities of its tokens.

    Args:
        folder: of the tokenizer.
        most: tokens after which an answer is cut.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: TextTokenizer,
        folder: Path,
        rules: TextRules,
        most: int,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        self._folder, self._rules, self._decode = folder, rules, tokenizer.decode
        self.longest_answer = most

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        (prompt,) = prompts
        return self._answer(prompt, written(self._rules, self._model, prompt, self.longest_answer))

    def _answers(self, prompts: Sequence[Sequence[list[int]]], together: Together) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return list(map(self._answer, alone, together.written(self._rules, alone, self.longest_answer)))

    def stream(self, prompt: Sequence[int], terms: GenerationConfig) -> Pieces:
        """An answer's text piece by piece, and then the answer.

        Raises:
            GrammarError: the schema can't be followed; at once.
        """
        most = min(terms.most or self.longest_answer, self.longest_answer)
        rules: DecodingRules = self._rules.ending_at(terms.stop)
        if terms.schema is not None:
            rules = RecordGrammar(self._folder, terms.schema, self._rules.end)
        return self._shown(*begun(rules, self._model, prompt, most), prompt, terms.stop)

    def _shown(self, writer: Written, pauses: Iterator[None], prompt: Sequence[int], stop: Sequence[str]) -> Pieces:
        shown, reading, read = Shown((*self._rules.stop, *stop)), Reading(self._decode), 0
        for _ in pauses:
            if writer.done:
                continue
            fresh = "".join(reading.add(token)[0] for token in writer.ids[read:])
            read = len(writer.ids)
            if more := shown.add(fresh):
                yield more
        whole = self._answer(prompt, writer)
        answer = replace(whole, text=until(whole.text, stop).rstrip())
        if rest := answer.text[shown.letters :]:
            yield rest
        yield answer

    def _answer(self, prompt: Sequence[int], writer: Written) -> Answer:
        confidence = math.exp(fmean(writer.log_probabilities)) if writer.ids else 1.0
        text, ends = _read(self._decode, writer.ids)
        tokens = _tokens(text, ends, writer.log_probabilities)
        text = self._task.canonical(text)
        return self._calibrated(
            Answer(text, confidence, len(prompt), len(writer.ids) + 1, cut=writer.cut, tokens=tokens)
        )


class RecordReader(_Prompted):
    """Writes the record that is likeliest at each token, among those the grammar allows.

    How sure it is of one is the product of the probabilities of its tokens, or where it was read in portions, of the
    values that were taken from them.

    Args:
        grammar: of what is read in one portion of a request.
        whole: of a whole record.
        most: tokens after which a record is brought to its end.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: TextTokenizer,
        grammar: RecordGrammar,
        whole: RecordGrammar,
        most: int,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        self._grammar, self._whole, self._decode = grammar, whole, tokenizer.decode
        self.longest_answer = most

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        grammar = self._grammar_of(prompts)
        return self._put_together(prompts, [self._read(prompt, grammar) for prompt in prompts])

    def _answers(self, prompts: Sequence[Sequence[list[int]]], together: Together) -> list[Answer]:
        read: dict[int, list[Answer]] = {}
        for grammar in (self._whole, self._grammar):
            some = [
                (n, prompt) for n, each in enumerate(prompts) for prompt in each if self._grammar_of(each) is grammar
            ]
            writers = together.written(grammar, [prompt for _, prompt in some], self.longest_answer)
            for (number, prompt), writer in zip(some, writers, strict=True):
                read.setdefault(number, []).append(self._of_writer(prompt, writer))
            if self._whole is self._grammar:
                break
        return [self._put_together(each, read[number]) for number, each in enumerate(prompts)]

    def _grammar_of(self, prompts: Sequence[Sequence[int]]) -> RecordGrammar:
        """That of what is read in each portion."""
        return self._whole if len(prompts) == 1 else self._grammar

    def _put_together(self, prompts: Sequence[Sequence[int]], read: list[Answer]) -> Answer:
        """The answer to a request of what was read in its portions."""
        if len(prompts) == 1:
            return self._calibrated(read[0])
        record, fields = joined([(json.loads(each.text), each.fields) for each in read])
        if not self._fits(record):
            # A field that a record must have was found in no portion, or lists are too long together.
            first = self._read(prompts[0], self._whole)
            whole = json.loads(first.text)
            absent = {name: value for name, value in whole.items() if name not in record}
            record, fields = joined([(record, fields), (absent, first.fields)])
            if not self._fits(record):
                record, fields = whole, dict(first.fields)
            read.append(first)
        return self._calibrated(
            Answer(
                self._task.canonical(json.dumps(record)),
                math.prod(fields.values()),
                sum(each.prompt_tokens for each in read),
                sum(each.answer_tokens for each in read),
                fields,
                any(each.cut for each in read),
            )
        )

    def _fits(self, record: Mapping[str, Any]) -> bool:
        try:
            self._task.canonical(json.dumps(record))
        except Unfit:
            return False
        return True

    def _read(self, prompt: Sequence[int], grammar: RecordGrammar) -> Answer:
        return self._of_writer(prompt, written(grammar, self._model, prompt, self.longest_answer))

    def _of_writer(self, prompt: Sequence[int], writer: Written) -> Answer:
        text, ends = _read(self._decode, writer.ids)
        fields = _confidences(text, ends, writer.log_probabilities)
        confidence = math.exp(sum(writer.log_probabilities))
        return Answer(
            self._task.of_chunk(text),
            confidence,
            len(prompt),
            len(writer.ids) + 1,
            fields,
            writer.cut,
            tokens=_tokens(text, ends, writer.log_probabilities),
        )


def _read(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> tuple[str, list[int]]:
    """(the text of tokens, for each the number of letters up to its end)."""
    text, reading = decode(ids), Reading(decode)
    return text, [reading.add(token)[1] for token in ids]


def _tokens(text: str, ends: Sequence[int], log_probabilities: Sequence[float]) -> list[Token]:
    """The pieces of a text; `ends` as in `_confidences`."""
    starts = [0, *ends[:-1]]
    return [
        Token(text[start:end], log_probability)
        for start, end, log_probability in zip(starts, ends, log_probabilities, strict=True)
    ]


def _confidences(text: str, ends: Sequence[int], log_probabilities: Sequence[float]) -> dict[str, float]:
    """The probability of the values at each path.

    Args:
        ends: for each token the number of characters up to its end.
    """
    spans = list(value_spans(text))
    total = dict.fromkeys((path for path, _, _ in spans), 0.0)
    start = place = 0
    for end, log_probability in zip(ends, log_probabilities, strict=True):
        # A token that ends a value may begin the next one: what it decides is the end.
        while place < len(spans) and spans[place][2] <= start:
            place += 1
        if place < len(spans) and spans[place][1] < end:
            total[spans[place][0]] += log_probability
        start = end
    return {path: math.exp(value) for path, value in total.items()}


def shots_of(
    train: Sequence[Example], answers: Sequence[str], count: int, encode: Callable[[str], Sequence[int]]
) -> list[Example]:
    """At most `count` training examples to show: the labels in turn, the shortest text of each label first; of answers
    that are no fixed set the shortest examples, as many as are worth their tokens.

    Args:
        answers: all answers there are, where they are a fixed set; or all labels of which an answer has some.
        encode: text -> its token ids.
    """
    if not answers:
        return _shortest(train, count, encode)
    by_answer: dict[str, list[Example]] = {answer: [] for answer in answers}
    for example in sorted(train, key=lambda e: (len(e.request), e.meta.id)):
        for answer in by_answer.keys() & {example.answer, *labels_in(example.answer)}:
            by_answer[answer].append(example)
    rounds = max((len(examples) for examples in by_answer.values()), default=0)
    in_turn = [by_answer[a][turn] for turn in range(rounds) for a in answers if turn < len(by_answer[a])]
    return list({example.meta.id: example for example in in_turn}.values())[:count]


def _shortest(train: Sequence[Example], count: int, encode: Callable[[str], Sequence[int]]) -> list[Example]:
    chosen, left = [], _SHOT_TOKENS
    for example in sorted(train, key=lambda e: (len(e.request) + len(e.answer), e.meta.id))[:count]:
        left -= len(encode(example.request)) + len(encode(example.answer))
        if left < 0:
            break
        chosen.append(example)
    return chosen
