"""The training rows with the copies that `train.num_swapped_copies` asks for."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.tasks import Example, task_of
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.spans.swaps import swapped_copies


def with_copies(spec: Spec, examples: Sequence[Example]) -> Sequence[Example]:
    """A dataset's training rows, followed by their copies if the spec asks for any.

    Raises:
        UserError: it does, and some field's values can't be found in a text.
    """
    copies, task = spec.train.num_swapped_copies, task_of(spec.task)
    if not copies or not isinstance(task, ExtractTask):
        return examples
    try:
        return [*examples, *swapped_copies(task.form, examples, copies, spec.seed)]
    except UserError as error:
        raise UserError(
            "No copies with swapped values can be made of these records.",
            where="train.num_swapped_copies",
            why=error.what,
            fix="Type: tunewright … train.num_swapped_copies=0",
        ) from None
