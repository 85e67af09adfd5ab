"""Tasks: each kind defines its prompt, the form of its answers, and its metrics. Tasks know nothing of other
packages."""

from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.example import Example, Message, Meta
from tunewright.tasks.label_trie import (
    Branch,
    BranchModel,
    LabelSearch,
    LabelTrie,
    NextTokenModel,
    score_labels,
)
from tunewright.tasks.multi_label import MultiLabelTask
from tunewright.tasks.registry import task_of

__all__ = [
    "Branch",
    "BranchModel",
    "ClassifyTask",
    "Example",
    "LabelSearch",
    "LabelTrie",
    "Message",
    "Meta",
    "MultiLabelTask",
    "NextTokenModel",
    "Task",
    "score_labels",
    "task_of",
]
