"""The public sets of the scoreboard: a YAML file each in bench/sets, read, checked and turned into a project."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from ruamel.yaml import YAML
from schemas import all_fields

from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.errors import UserError, did_you_mean
from tunewright.data import evenly

SETS = Path(__file__).parent / "sets"
MODELS = ("linear", "all-minilm", "smollm2-135m")
"""What is tuned on every set, by its name in the catalogue, the cheapest first."""
WRITERS = ("smollm2-135m",)
"""The language models among them."""
VALIDATION = 0.05
"""Share of the training part that is held out, on every set: for calibration, the threshold and the choice of the model
that is kept. Less than the package's default of 0.1, because published models learn from the whole training part."""
PASSES, MOST_LETTERS = 2.0, 3_000_000
"""A language model passes over the training part as often as by default, or fewer times where that would be more than
so many letters of texts and answers in all: about half an hour on two cores."""

Record = Mapping[str, Any]


METRICS = {"classify": "accuracy", "extract": "field F1", "generate": "chrF"}
"""The primary metric of each task."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(Strict):
    """A figure that others published."""

    model: str
    group: Literal["encoder", "tuned language model", "prompted model"]
    value: float
    """In percent."""
    metric: str
    source: str
    read: str
    """The day on which it was read there."""
    same: bool
    """Whether test and metric are those of our rows. Otherwise `note` says what differs."""
    note: str = ""

    @model_validator(mode="after")
    def _what_differs(self) -> Published:
        if not self.same and not self.note:
            raise ValueError("a figure of another test or metric needs a note that says what differs")
        return self


class DataSet(Strict):
    """One public set with one task."""

    name: str
    title: str
    task: Literal["classify", "extract", "generate"]
    instruction: str
    """The task's prompt for language models; the others read the text alone."""
    source: str
    commit: str | None = None
    licence: str
    folder: str
    """Where its files lie below the folder of all data."""
    train: str = "train.jsonl"
    tests: dict[str, str] = {}
    """Files by the names of the test parts, the one that counts first; without any, a part of `train` is held out."""
    split: str
    """Whose split it is, in words."""
    answer: str = "label"
    """The column of the answer."""
    without: tuple[str, ...] = ()
    """Labels whose rows are left out."""
    apart: str | None = None
    """A label whose recall is shown apart from the accuracy on all others."""
    words: bool = False
    """Whether labels such as card_arrival are written in words."""
    fields: tuple[str, ...] = ()
    """The fields of a record that are asked for; all that the training part has, where none are named."""
    max_length: int | None = None
    """Tokens of a training example, where the default is too few for the longest."""
    group: str | None = None
    """A column whose equal values stay on one side of the split."""
    most: int | None = None
    """Test examples that are asked, evenly spaced."""
    published: tuple[Published, ...] = ()
    missing: str = ""
    """What was looked for among published figures and not found."""


def load_sets(folder: Path = SETS) -> dict[str, DataSet]:
    """Every set by its name, in the order of tasks and files.

    Raises:
        UserError: a file does not fit.
    """
    found = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            found.append(DataSet.model_validate(YAML(typ="safe").load(file.read_text("utf-8"))))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"{place}: {first['msg']}.", where=file, fix="Compare bench/sets/banking77.yaml.") from None
        if found[-1].name != file.stem:
            raise UserError(f"The set calls itself {found[-1].name}.", where=file, fix="Give file and set one name.")
    order = ("classify", "extract", "generate")
    return {each.name: each for each in sorted(found, key=lambda each: order.index(each.task))}


def find_set(name: str) -> DataSet:
    """A set by its name.

    Raises:
        UserError: there is none.
    """
    sets = load_sets()
    if name not in sets:
        raise UserError(f"There is no set '{name}'.", fix=did_you_mean(name, sets, f"Known: {', '.join(sets)}."))
    return sets[name]


def files_of(one: DataSet, data: Path) -> dict[str, Path]:
    """The files of its parts, by `train` and the names of the tests.

    Raises:
        UserError: one is absent.
    """
    files = {"train": one.train} | one.tests
    paths = {part: data / one.folder / file for part, file in files.items()}
    for path in paths.values():
        if not path.is_file():
            raise UserError(
                "This file of a public set is not here.",
                where=path,
                why=f"Its source is {one.source}.",
                fix="Name the folder of the data with --data, or by the variable TUNEWRIGHT_DATA.",
            )
    return paths


def rows_of(one: DataSet, rows: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows as the package reads them: text, label and, where the set has groups, group."""
    for row in rows:
        answer = row[one.answer]
        if answer in one.without:
            continue
        if one.task == "extract":
            wanted = one.fields or answer
            answer = {name: answer[name] for name in wanted if answer.get(name)}
        elif one.words:
            answer = answer.replace("_", " ")
        grouped = {"group": str(row[one.group])} if one.group else {}
        yield {"text": row["text"], "label": answer, **grouped}


def passes(rows: Sequence[Record]) -> float:
    """How often a language model passes over training rows: the rule of `PASSES`, to a tenth, and at least that."""
    return max(0.1, min(PASSES, int(10 * MOST_LETTERS / max(1, letters(rows))) / 10))


def letters(rows: Sequence[Record]) -> int:
    """Letters of the texts and answers, records as JSON."""
    return sum(len(row["text"]) + len(_written(row["label"])) for row in rows)


def _written(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def spec_of(one: DataSet, model: str, seed: int, rows: Sequence[Record]) -> dict[str, Any]:
    """The spec of a row: the package's defaults but for what this module's constants say.

    Args:
        rows: the training part.
    """
    task: dict[str, Any] = {"kind": one.task, "instruction": one.instruction}
    if one.task == "classify":
        task["labels"] = sorted({row["label"] for row in rows})
    elif one.task == "extract":
        task["schema"] = all_fields(row["label"] for row in rows)
    data: dict[str, Any] = {"train": "train.jsonl", "validation_fraction": VALIDATION}
    if one.tests:
        data["test"] = {part: f"{part}.jsonl" for part in one.tests}
    if one.group:
        data["group"] = "group"
    spec = {"name": one.name, "model": model, "seed": seed, "task": task, "data": data, "evaluate": {"few_shot": 0}}
    train: dict[str, Any] = {"max_length": one.max_length} if one.max_length else {}
    if model in WRITERS and (often := passes(rows)) < PASSES:
        train["epochs"] = often
    return spec | ({"train": train} if train else {})


def parts_of(one: DataSet, data: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of its training part and of the test parts that are asked.

    Raises:
        UserError: a file is absent.
    """
    parts = {part: list(rows_of(one, read_jsonl(file))) for part, file in files_of(one, data).items()}
    return {part: rows if part == "train" else evenly(rows, one.most or len(rows)) for part, rows in parts.items()}


def write_project(spec: Mapping[str, Any], parts: Mapping[str, list[dict[str, Any]]], folder: Path) -> None:
    """Write the data and the spec of a row into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        write_jsonl(folder / f"{part}.jsonl", rows)
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n", "utf-8")
