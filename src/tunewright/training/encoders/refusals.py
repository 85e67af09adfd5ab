"""Refuses, before any work starts, specs that an encoder can't do.

The step `train` checks the values of all records. `not_literal` checks the first rows only: without it a ladder would
end at an encoder that can't do the job, and a run would check and split data in vain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.job import columns_in
from tunewright.data.readers import read
from tunewright.inference.runtimes.base import encoder_runtime, require_encoder_precision
from tunewright.models.encoders import unable
from tunewright.tasks import Example, task_of
from tunewright.tasks.base import JsonRecord, Unfit
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.align import Aligner
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.literal import literal, require_literal

_ROWS = 200
_SURELY = 0.4
"""Share of literal values that these few rows must have: less than all rows must have, so that chance refuses
nothing."""


def refusal(spec: Spec) -> UserError | None:
    """Why an encoder can't do what a spec asks for; None if it can."""
    if error := unable(spec.task.kind, spec.model_name, encoder=True):
        return error
    constraint = task_of(spec.task).constraint
    if isinstance(constraint, JsonRecord):
        try:
            fields_of(RecordForm(constraint.schema))
        except UserError as error:
            return error
    if spec.train.init_adapter is not None:
        return UserError(
            f"The training of {spec.model_name} can't begin with an adapter.",
            where="train.init_adapter",
            why="It is an encoder, which has no adapter: all its weights are trained.",
            fix="Type: tunewright … train.init_adapter=null",
        )
    try:
        encoder_runtime(spec.export.runtime)
        require_encoder_precision(spec.export.precision)
    except UserError as error:
        return error
    return None


def not_literal(spec: Spec) -> UserError | None:
    """Why the values of a spec's records can't be marked in its texts; None if they can, or if the first rows don't
    show it."""
    task = task_of(spec.task)
    if not isinstance(task, ExtractTask):
        return None
    try:
        examples = _examples(spec, task)
    except UserError:
        return None  # an error in the data, which the step `check` explains better
    if not examples:
        return None
    fields = fields_of(task.form)
    aligner = Aligner([each for each in fields if not each.choices], examples)
    lost = [aligner.align(example).lost for example in examples]
    try:
        require_literal(literal(fields, [json.loads(example.answer) for example in examples], lost), _SURELY)
    except UserError as error:
        return error
    return None


def _examples(spec: Spec, task: ExtractTask) -> Sequence[Example]:
    """The first training rows whose answers are records."""
    data, examples = spec.data, []
    items = read(spec.path(data.train), form=data.form, columns=columns_in(spec))
    rows = (row for row in items if isinstance(row, Example))
    for row in islice(rows, _ROWS):
        request = InputForm.of(spec.task).of_example(row).request
        try:
            examples.append(Example.of(request, task.canonical(row.answer), row.meta))
        except Unfit:
            continue
    return examples
