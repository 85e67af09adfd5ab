"""A dataset on disk: `train.jsonl`, `validation.jsonl` and `test/<name>.jsonl`, one example a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.tasks import Example


@dataclass(frozen=True)
class Dataset:
    train: list[Example]
    validation: list[Example]
    test: dict[str, list[Example]]
    """Test examples by the name of their split."""

    @property
    def test_examples(self) -> list[Example]:
        return [example for examples in self.test.values() for example in examples]


def load_examples(path: Path) -> list[Example]:
    return [Example.model_validate(row) for row in read_jsonl(path)]


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, (example.row() for example in examples))


def load_dataset(folder: Path) -> Dataset:
    """The dataset that the step `split` wrote."""
    return Dataset(
        load_examples(folder / "train.jsonl"),
        load_examples(folder / "validation.jsonl"),
        {path.stem: load_examples(path) for path in sorted((folder / "test").glob("*.jsonl"))},
    )


def save_dataset(folder: Path, dataset: Dataset) -> None:
    save_examples(folder / "train.jsonl", dataset.train)
    save_examples(folder / "validation.jsonl", dataset.validation)
    for name, examples in dataset.test.items():
        save_examples(folder / "test" / f"{name}.jsonl", examples)
