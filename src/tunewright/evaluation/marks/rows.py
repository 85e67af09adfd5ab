"""Training rows as the judge reads them, and the copy in which some have weight 0."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.job import columns_in
from tunewright.data.readers import Fault, quarantine_line, read, write_chat
from tunewright.data.readers.sources import files
from tunewright.evaluation.marks.marking import MarkedText
from tunewright.tasks import Example
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.turns import said

MARKS_FILE, SUMMARY, TRAIN, TO_MARK = "marks.jsonl", "judged.json", "train.jsonl", "to_mark.jsonl"
QUARANTINE = "quarantine"


def training_rows(spec: Spec) -> Iterator[Example | Fault]:
    """Every row of `data.train`, in order. People's corrections are not among them."""
    for item in read(spec.path(spec.data.train), form=spec.data.form, columns=columns_in(spec)):
        if isinstance(item, (Example, Fault)):
            yield item


def judged_rows(spec: Spec) -> Iterator[tuple[Example, MarkedText]]:
    """The rows that the judge marks: those that count, each with its texts as the model reads them."""
    for item in training_rows(spec):
        if isinstance(item, Example) and item.importance:
            yield item, text_of(spec, item)


def text_of(spec: Spec, example: Example) -> MarkedText:
    return MarkedText(InputForm.of(spec.task).of_example(example).request, said(example.messages[-1]))


def write_copy(spec: Spec, folder: Path, left_out: Callable[[MarkedText], bool]) -> int:
    """Write `train.jsonl`, in which the rows that are left out have weight 0 and every other row is as it was read.

    Rows that can't be read go to `quarantine/train.jsonl`.

    Returns:
        their number.
    """
    faults = 0

    def copied() -> Iterator[Example]:
        nonlocal faults
        for item in training_rows(spec):
            if isinstance(item, Fault):
                faults += 1
                (folder / QUARANTINE).mkdir(exist_ok=True)
                with (folder / QUARANTINE / TRAIN).open("a", encoding="utf-8") as stream:
                    stream.write(quarantine_line(item))
            elif item.importance and left_out(text_of(spec, item)):
                yield item.model_copy(update={"weight": 0.0})
            else:
                yield item

    write_chat(folder / TRAIN, copied(), columns_in(spec))
    return faults


def require_replaceable(spec: Spec, output: Path) -> None:
    """Check that the output may be written: nothing of anybody's is there, but perhaps marks without a copy.

    Raises:
        UserError: the folder holds other files, or a copy that the project may read.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError("This is a file; it was left as it is.", where=output, fix="Name a folder with --out.")
    ours = {MARKS_FILE, SUMMARY, TO_MARK}
    if {path.name for path in output.iterdir()} - ours:
        raise UserError("This folder isn't empty; it was left as it is.", where=output, fix="Name another with --out.")
    if any(file.path.resolve().is_relative_to(output.resolve()) for file in files(spec.path(spec.data.train))):
        raise UserError("The training data lie in this folder.", where=output, fix="Name another with --out.")


def keep_marks(output: Path, folder: Path) -> None:
    """Carry the marks that people have filled in over into the new folder."""
    file = output / TO_MARK
    if file.is_file() and not _is_blank(file):
        shutil.copyfile(file, folder / TO_MARK)


def _is_blank(file: Path) -> bool:
    """Whether nobody has touched the rows to mark."""
    try:
        return all(row["mark"] is None for row in read_jsonl(file))
    except (ValueError, LookupError, TypeError):
        return False


@contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """A folder that becomes the output when everything is in it; nothing is left of it if it does not come to that."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-", ignore_cleanup_errors=True) as name:
        folder = Path(name) / output.name
        folder.mkdir()
        yield folder
        if output.exists():
            output.rename(Path(name) / "before")
        folder.rename(output)
