"""The predictor of an encoder that reads records: a tag for each token, one forward pass a window. The same code serves
torch, OpenVINO and ONNX Runtime."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from tunewright.inference.calibration import UNCALIBRATED, Calibration
from tunewright.inference.predictors.base import Answer, settled
from tunewright.inference.predictors.encoder import EncoderPredictor, LabelClassifier, LabelSetClassifier, Logits
from tunewright.models.chat import token_counter
from tunewright.models.linear_model import Ngrams
from tunewright.models.tokenizer import Framed, TextTokenizer
from tunewright.tasks import MultiLabelTask, Task
from tunewright.tasks.base import JsonRecord
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.habits import NONE_KNOWN, Habits
from tunewright.tasks.spans.reader import SpanReader
from tunewright.tasks.spans.tags import SpanRecord, TagSet
from tunewright.tasks.windows import joined


class RecordTagger(EncoderPredictor):
    """A predictor with the interface of `tunewright.inference.predictors.LanguageModel` that writes nothing. Its
    prompts are the windows of the text, or the text.

    Its confidence in a record is the product of the probabilities of the tags. If the text was read in windows, it is
    the product over the values that were taken from them. A record lacks a required field if no piece of the text can
    be read as one; the confidence is then 0.

    Args:
        logits: the function for the tokens' logits, [tokens, outputs] for each text.
        outputs: the names of the outputs; see `TagSet.outputs`.
        context: tokens that the encoder reads.
        habits: see `TagSet`.
    """

    def __init__(
        self,
        logits: Logits,
        task: Task,
        tokenizer: TextTokenizer,
        outputs: Sequence[str],
        context: int,
        calibration: Calibration = UNCALIBRATED,
        habits: Habits = NONE_KNOWN,
    ):
        assert isinstance(task.constraint, JsonRecord)
        super().__init__(logits, tokenizer, calibration)
        self._text_tokenizer = tokenizer
        self._task = task.within(context - tokenizer.frame)
        self._form = RecordForm(task.constraint.schema)
        self._tags = TagSet.named(fields_of(self._form), outputs, habits)

    def prompts(self, request: str) -> list[list[int]]:
        chunks = self._task.chunks(request, token_counter(self._text_tokenizer))
        return [self._text_tokenizer.framed(chunk) for chunk in chunks]

    def answers_of(self, prompts: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
        logits = iter(self._logits([window for windows in prompts for window in windows]))
        return [
            self._answer([self._reader(window, next(logits)) for window in windows], windows) for windows in prompts
        ]

    def _reader(self, window: Sequence[int], logits: Any) -> SpanReader:
        assert isinstance(window, Framed), "prompts come from `prompts`"
        return SpanReader(self._tags, logits, window.offsets, window.text)

    def _answer(self, readers: Sequence[SpanReader], windows: Sequence[Sequence[int]]) -> Answer:
        whole = len(readers) == 1
        results = [reader.read(whole=whole) for reader in readers]
        result = results[0] if whole else self._joined(readers, results)
        for each in self._tags.fields:
            # Only now: a window without the value must not tell against one that has it.
            if each.required and each.nullable and not each.among(result.record):
                each.put(result.record, None)
        text, sure, fields = settled(self._task, json.dumps(result.record), result.confidence, result.fields)
        confidence = self._calibration.of_answer(sure)
        return Answer(text, confidence, sum(map(len, windows)), 0, fields, uncalibrated=sure)

    def _joined(self, readers: Sequence[SpanReader], results: Sequence[SpanRecord]) -> SpanRecord:
        """Join the records of the windows of one document. If a required field is in none of them, take the best
        candidate of all windows."""
        record, fields = joined([(each.record, each.fields) for each in results], self._form)
        result = SpanRecord(record, fields)
        for each in self._tags.fields:
            if each.required and not each.nullable and each.single and not each.choices and not each.among(record):
                candidates = [best for best in (reader.best_candidate(each) for reader in readers) if best]
                if candidates:
                    best = max(candidates, key=lambda piece: piece.score)
                    each.put(record, best.value)
                    fields[each.path] = math.exp(best.log_probability)
        result.confidence = math.prod(fields.values())
        return result


def encoder_predictor(
    logits: Logits,
    task: Task,
    reader: TextTokenizer | Ngrams,
    outputs: Sequence[str],
    context: int,
    calibration: Calibration = UNCALIBRATED,
    habits: Habits = NONE_KNOWN,
) -> EncoderPredictor:
    """The predictor of an encoder or a linear model for a task; for the arguments see `RecordTagger`."""
    if isinstance(task.constraint, JsonRecord):
        assert isinstance(reader, TextTokenizer), "records need a tokenizer"
        return RecordTagger(logits, task, reader, outputs, context, calibration, habits)
    if isinstance(task, MultiLabelTask):
        return LabelSetClassifier(logits, task, reader, calibration)
    return LabelClassifier(logits, task, reader, calibration)
