"""An encoder that reads records: a tag for each token, in one pass a window; the same for torch, OpenVINO and ONNX
Runtime."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.inference.calibration import UNCALIBRATED, Calibration
from tunewright.inference.predictors.base import Answer
from tunewright.inference.predictors.encoder import EncoderPredictor, LabelClassifier, LabelSetClassifier, Logits
from tunewright.models.chat import token_counter
from tunewright.models.linear_model import Ngrams
from tunewright.models.tokenizer import Framed, TextTokenizer
from tunewright.tasks import MultiLabelTask, Task
from tunewright.tasks.base import JsonRecord, Unfit
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.reading import SpanReader
from tunewright.tasks.spans.tags import Found, TagSet
from tunewright.tasks.windows import joined


class RecordTagger(EncoderPredictor):
    """What answers as a `tunewright.inference.predictors.LanguageModel` does, and writes nothing: its prompts are the
    windows of the text, or the text.

    How sure it is of a record is the probability of its tags, each token for itself; where it was read in windows, of
    the values that were taken from them. A record lacks a field that it must have where nothing in the text can be
    read so; the confidence in it is then 0.

    Args:
        logits: of the tokens of some texts, each [tokens, outputs].
        outputs: what each stands for, as `TagSet.outputs` names them.
        context: tokens that the encoder reads.
    """

    def __init__(
        self,
        logits: Logits,
        task: Task,
        tokenizer: TextTokenizer,
        outputs: Sequence[str],
        context: int,
        calibration: Calibration = UNCALIBRATED,
    ):
        assert isinstance(task.constraint, JsonRecord)
        super().__init__(logits, tokenizer, calibration)
        self._reads = tokenizer
        self._task = task.within(context - tokenizer.frame)
        self._set = TagSet.named(fields_of(RecordForm(task.constraint.schema)), outputs)

    def prompts(self, request: str) -> list[list[int]]:
        chunks = self._task.chunks(request, token_counter(self._reads))
        return [self._reads.framed(chunk) for chunk in chunks]

    def answers_of(self, prompts: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
        logits = iter(self._logits([window for windows in prompts for window in windows]))
        return [
            self._answer([self._reader(window, next(logits)) for window in windows], windows) for windows in prompts
        ]

    def _reader(self, window: Sequence[int], logits: Any) -> SpanReader:
        assert isinstance(window, Framed), "prompts come from `prompts`"
        return SpanReader(self._set, logits, window.offsets, window.text)

    def _answer(self, readers: Sequence[SpanReader], windows: Sequence[Sequence[int]]) -> Answer:
        whole = len(readers) == 1
        found = [reader.found(whole=whole) for reader in readers]
        read = found[0] if whole else self._together(readers, found)
        try:
            text = self._task.canonical(json.dumps(read.record))
        except Unfit:
            text, read.confidence = self._fitting(read.record), 0.0
            kept = json.loads(text)
            read.fields = {path: sure for path, sure in read.fields.items() if re.split(r"[.\[]", path)[0] in kept}
        sure = self._calibration.of_answer(read.confidence) if read.confidence else 0.0
        return Answer(text, sure, sum(map(len, windows)), 0, read.fields, uncalibrated=read.confidence)

    def _fitting(self, record: Mapping[str, Any]) -> str:
        """What of a record fits the schema, as far as it goes."""
        kept: dict[str, Any] = {}
        for name, value in record.items():
            try:
                self._task.of_chunk(json.dumps({name: value}))
            except Unfit:
                continue
            kept[name] = value
        return self._task.of_chunk(json.dumps(kept))

    def _together(self, readers: Sequence[SpanReader], found: Sequence[Found]) -> Found:
        """What was read in the windows of one document; what must be there and was found in none is looked for in all
        of them."""
        record, fields = joined([(each.record, each.fields) for each in found])
        result = Found(record, fields)
        for each in self._set.fields:
            if each.required and not each.nullable and each.single and not each.choices and not each.among(record):
                sought = [value for value in (reader.sought(each) for reader in readers) if value]
                if sought:
                    _, sure, value = max(sought, key=lambda one: one[0])
                    each.put(record, value)
                    fields[each.path] = math.exp(sure)
        result.confidence = math.prod(fields.values())
        return result


def encoder_predictor(
    logits: Logits,
    task: Task,
    reader: TextTokenizer | Ngrams,
    outputs: Sequence[str],
    context: int,
    calibration: Calibration = UNCALIBRATED,
) -> EncoderPredictor:
    """What answers a task by an encoder or a linear model; arguments as of `RecordTagger`."""
    if isinstance(task.constraint, JsonRecord):
        assert isinstance(reader, TextTokenizer), "values are marked by tokens"
        return RecordTagger(logits, task, reader, outputs, context, calibration)
    if isinstance(task, MultiLabelTask):
        return LabelSetClassifier(logits, task, reader, calibration)
    return LabelClassifier(logits, task, reader, calibration)
