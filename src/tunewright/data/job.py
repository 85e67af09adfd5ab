"""The job as the checks know it: its data files, its task, and the longest example it allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.config import DataSpec, FileSpec, GoalSpec, Spec
from tunewright.core.errors import UserError
from tunewright.data.corrections import with_corrections
from tunewright.data.readers import Columns
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.text import request_text
from tunewright.tasks import Example, Task, task_of
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.input_form import InputForm


@dataclass(frozen=True)
class Limit:
    """The number of tokens an example may have, and the tokenizer and template that count them."""

    folder: Path
    """The folder of the base model's tokenizer."""
    template: str | None
    """The chat template's source; None for an encoder, which reads the text alone."""
    max_length: int
    is_window: bool = False
    """Whether the limit is the window of an encoder, and not `train.max_length`."""


@dataclass(frozen=True)
class Job:
    """The data and its purpose. Workers get a copy, so it holds plain values only."""

    data: DataSpec
    sources: Mapping[str, Path]
    """File, folder or pattern for "train" and for each named test."""
    task: Task | None = None
    """None: there is no spec, and the labels come from the data."""
    limit: Limit | None = None
    limit_unknown: str = ""
    """The reason why the limit is unknown, where the job should have one."""
    goal: GoalSpec = field(default_factory=GoalSpec)
    seed: int = 0
    corrections: Path | None = None
    """The folder of corrections, which are read after "train"; None: there are none to read."""
    documents_root: Path | None = None
    """The folder in which documents must lie; None: the folder of the data that names them."""
    input_form: InputForm = field(default_factory=InputForm)
    """How the input is read from a row's messages."""

    @property
    def columns(self) -> Columns:
        return columns_of(self.data, self.documents_root, is_record=isinstance(self.task, ExtractTask))

    def request_of(self, example: Example) -> str:
        """The text a model must answer: with a task, which has its own prompt, the last request; else all turns."""
        return example.request if self.task else request_text(example)

    def files(self) -> dict[str, list[SourceFile]]:
        """The files of each source.

        Raises:
            UserError: a file, folder or pattern gives none, or the corrections were edited.
        """
        return files_of(self.sources, self.corrections)


def files_of(sources: Mapping[str, Path], corrections: Path | None) -> dict[str, list[SourceFile]]:
    """The files of each source, with the corrections after those of "train".

    Raises:
        UserError: a file, folder or pattern gives none, or the corrections were edited.
    """
    by_split = {name: files(source) for name, source in sources.items()}
    return by_split | {"train": with_corrections(by_split["train"], corrections)}


def columns_of(data: DataSpec, documents_root: Path | None, *, is_record: bool) -> Columns:
    """The columns of a spec's data; the rest is as in `Columns`."""
    names = (data.text, data.label, data.group, data.time, data.document, data.separator)
    return Columns(*names, documents_root, is_record)


def columns_in(spec: Spec) -> Columns:
    """The columns of a whole spec's data."""
    return columns_of(spec.data, spec.documents_root, is_record=spec.task.kind == "extract")


def job_of(spec: Spec) -> Job:
    """The job of a whole spec. Fetches its tokenizer if this machine lacks it."""
    sources = {"train": spec.path(spec.data.train), **{n: spec.path(p) for n, p in spec.data.test.items()}}
    limit, unknown = _limit(spec.model, spec.folder, spec.train.max_length)
    return Job(
        spec.data,
        sources,
        task_of(spec.task),
        limit,
        unknown,
        spec.goal,
        spec.seed,
        spec.corrections_folder,
        spec.documents_root,
        InputForm.of(spec.task),
    )


def job_of_files(spec: FileSpec) -> Job:
    """The job of bare files, relative to the current folder."""
    sources = {"train": spec.data.train, **spec.data.test}
    limit, unknown = _limit(spec.model, Path.cwd(), spec.train.max_length) if spec.model else (None, "")
    return Job(spec.data, sources, None, limit, unknown, spec.goal, documents_root=spec.data.documents_root)


def _limit(model: str, anchor: Path, max_length: int) -> tuple[Limit | None, str]:
    """The limit, or the reason why it is unknown: a machine that can't get the model can still check the data."""
    from tunewright.models.linear_model import LINEAR
    from tunewright.models.resolve import encoder_window, is_encoder, resolve_tokenizer

    if model == LINEAR:
        return None, ""
    try:
        if is_encoder(model, anchor):
            folder, window = encoder_window(model, anchor)
            return Limit(folder, None, min(window, max_length), window <= max_length), ""
        folder, template = resolve_tokenizer(model, anchor)
    except UserError as error:
        return None, str(error)
    return Limit(folder, template.source, max_length), ""
