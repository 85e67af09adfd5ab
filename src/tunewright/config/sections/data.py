"""`data`: which rows there are, and how they are divided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tunewright.config.sections.common import Section, Share, SplitName


def _named_tests(test: Any) -> Any:
    if isinstance(test, str):
        raise ValueError(f"each test file has a name, such as data.test.held_out={test}")
    return test


DataForm = Literal[
    "chat",
    "stored",
    "sharegpt",
    "alpaca",
    "prompt",
    "labelled",
    "gateway",
    "litellm",
    "helicone",
    "langfuse",
    "mlflow",
    "otlp",
    "phoenix",
    "openai-batch",
    "openai-batch-input",
    "openai-response",
    "openai-stream",
    "openai-stored",
    "openai-stored-messages",
    "pairs",
]


class DataSpec(Section):
    train: Path
    """The training data, relative to the spec: a file, a folder or a pattern such as data/*.csv. The formats are \
JSONL, CSV, TSV and Parquet, gzipped or not."""
    test: Annotated[dict[SplitName, Path], BeforeValidator(_named_tests)] = {}  # noqa: RUF012 (pydantic copies it)
    """Test files by name. Without any, `test_fraction` of the training rows is held out."""
    form: DataForm | None = None
    """The shape of a row; by default Tunewright detects it for each file. stored: stored completions; labelled: text \
and label; pairs: requests with their responses; the others: logs, each by the name of what wrote it."""
    text: str = "text"
    """The column that holds the input."""
    document: str | None = None
    """The column that holds the path of a document, relative to the data file. The document's text is then the input \
in place of `text`. PDF, e-mail, the output of an OCR engine and plain text are read."""
    documents_root: Path | None = None
    """The folder in which documents must lie, relative to the spec. Rows that name a file outside it are not read. \
By default the folder of the data."""
    label: str | dict[str, str] = "label"
    """The column that holds the answer: a label, or a record as an object or as JSON text. If several columns hold \
the record, a mapping from its fields to the columns."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """The text between labels, such as ";", if a column holds several labels as one text. An empty text then means \
that no label holds. Columns that hold lists need no separator."""
    group: str | None = None
    """A column whose equal values must stay on one side of a split, such as customer, template or thread."""
    time: str | None = None
    """A column that says when a row was written: ISO 8601, or epoch seconds or milliseconds. Test and validation are \
then the newest rows, and labels are not balanced."""
    frozen: Path | None = None
    """The folder of the frozen test, which must exist. By default `frozen_test` beside the spec, where `tunewright \
data freeze` writes it."""
    corrections: Path | None = None
    """The folder of corrections, whose rows are appended to `train`. By default `corrections` beside the spec, where \
`tunewright monitor corrections` writes them."""
    max_unreadable: Share = 0.0
    """The share of a file's rows that may be unreadable. Unreadable rows are left out and kept in a quarantine file."""
    test_fraction: Share = 0.2
    """The share of the rows held out for the test if the spec names no test file. If it names one, the share of the \
corrections that is held out for the gate of a retraining."""
    validation_fraction: Share = 0.1
    """The share of the training rows held out for validation. The kept adapter, early stopping, the choice of a \
sweep, the diagnosis and the confidence threshold rest on these rows."""
