"""Which baselines a task has."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.evaluation.candidates.classical import LinearSvm, Majority
from tunewright.evaluation.candidates.classical_sets import LabelSetSvm, UsualSet
from tunewright.evaluation.candidates.records import Nearest, Patterns
from tunewright.inference.predictors.base import Predictor
from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf


def controls(task: Task, known: Sequence[Example]) -> dict[str, Predictor]:
    """What costs next to nothing, by its name in the tables.

    Args:
        known: the examples to learn from.
    """
    match task.constraint:
        case OneOf():
            return {"majority": Majority(known), "svm": LinearSvm(known)}
        case SomeOf():
            assert isinstance(task, MultiLabelTask)
            return {"usual": UsualSet(known, task), "svm": LabelSetSvm(known, task)}
        case JsonRecord():
            return {"nearest": Nearest(known), "patterns": Patterns(known, task.canonical)}
        case FreeText():
            return {"nearest": Nearest(known)}
