"""Rows that name a document, whose text is then the request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.data.readers.helpers import Read, lines, read_all, write
from tests.documents.samples import path_without, pdf
from tunewright.data.readers import Columns, documents_of
from tunewright.data.readers.sources import files
from tunewright.documents import pool
from tunewright.documents.pool import Pool

COLUMNS = Columns(label="queue", document="file")
HELLO = pdf([(50, 50, "hello there")])


def project(folder: Path, documents: Mapping[str, bytes], *names: object) -> Path:
    """Write rows with a document each into a folder `data`."""
    for name, content in documents.items():
        write(folder / "data" / name, content)
    return write(folder / "data" / "train.jsonl", lines({"file": name, "queue": "a"} for name in names))


def found(folder: Path, documents: Mapping[str, bytes], *names: object) -> Read:
    return read_all(project(folder, documents, *names), columns=COLUMNS)


def test_the_document_is_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    mail = b"Subject: lamp\n\nbroken\n"
    read = found(tmp_path, {"in/a.pdf": HELLO, "b.eml": mail, "c.txt": b"text"}, "in/a.pdf", "./b.eml", "c.txt")
    assert read.requests == ["hello there", "Subject: lamp\n\nbroken", "text"]
    assert [example.answer for example in read.examples] == ["a"] * 3
    assert [example.meta.id for example in read.examples] == ["train.jsonl:1", "train.jsonl:2", "train.jsonl:3"]
    assert (read.faults, read.notes) == ([], [])


def test_paths_lead_outside_only_where_the_spec_allows_it(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere" / "a.txt", "one")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.txt").symlink_to(elsewhere)
    (tmp_path / "elsewhere" / "out.txt").symlink_to("/etc/hosts")
    names = [str(elsewhere), "../elsewhere/a.txt", "link.txt"]
    refused = found(tmp_path, {}, *names)
    assert refused.placed == [(1, "document"), (2, "document"), (3, "document")]
    path = project(tmp_path, {}, *names, "../elsewhere/out.txt")
    read = read_all(path, columns=Columns(label="queue", document="file", documents_root=tmp_path))
    assert read.requests == ["one", "one", "one"]
    assert read.placed == [(4, "document")]
    assert f"may only name documents in {tmp_path}" in read.fault.reason
    assert "write into the spec: data.documents_root: /etc" in read.fault.reason


def test_rows_may_name_all_documents_in_the_folder_of_data(tmp_path: Path) -> None:
    write(tmp_path / "data" / "mails" / "a.txt", "one")
    write(tmp_path / "b.txt", "two")
    for name, document in (("good", "../mails/a.txt"), ("bad", "../../b.txt")):
        write(tmp_path / "data" / name / "rows.jsonl", lines([{"file": document, "queue": "a"}]))
    read = read_all(tmp_path / "data", columns=COLUMNS)
    assert read.requests == ["one"]
    assert read.placed == [(1, "document")]


def test_a_table_and_a_record_in_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.pdf", HELLO)
    path = write(tmp_path / "d.csv", "file,who,note\na.pdf,ACME,x\n")
    read = read_all(path, columns=Columns(label={"vendor": "who"}, document="file"))
    assert read.requests == ["hello there"]
    assert json.loads(read.example.answer) == {"vendor": "ACME"}


def test_the_text_column_is_no_longer_the_request(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "from the document")
    path = write(tmp_path / "d.jsonl", lines([{"text": "from the row", "file": "a.txt", "label": "a"}]))
    assert read_all(path, columns=Columns(document="file")).requests == ["from the document"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.pdf", "There is no such document"),
        ("", "There is no such document"),
        ("broken.pdf", "The PDF is broken"),
        ("picture.png", "Type: tesseract"),
        ("x" * 5000, "There is no such document"),
        ("a\0.pdf", "There is no such document"),
    ],
)
def test_a_document_that_cannot_be_read_is_a_fault_of_its_row(name: str, reason: str, tmp_path: Path) -> None:
    documents = {"a.txt": b"one", "broken.pdf": b"%PDF-1.7 no", "picture.png": b"\x89PNG\r\n\x1a\n"}
    read = found(tmp_path, documents, "a.txt", name, "a.txt")
    assert read.requests == ["one", "one"]
    assert read.placed == [(2, "document")]
    assert reason in read.fault.reason
    assert json.loads(read.fault.raw + ('"}' if len(name) > 2000 else ""))["file"].startswith(name[:100])


@pytest.mark.parametrize("value", [None, 1.5, ["a.txt"], True])
def test_a_value_that_is_no_path_is_a_fault(value: object, tmp_path: Path) -> None:
    assert found(tmp_path, {"a.txt": b"one"}, "a.txt", value).placed == [(2, "content-type")]


def test_a_row_without_the_column_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", lines([{"text": "x", "label": "a"}]))
    assert "no key 'file'" in read_all(path, columns=Columns(document="file")).fault.reason


def test_rows_of_other_forms_are_read_without_documents(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
    path = write(tmp_path / "fixed.jsonl", lines([row]))
    assert read_all(path, columns=COLUMNS).requests == ["hi"]


def test_a_missing_library_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fail for every row, so it is no row's fault."""
    monkeypatch.setenv("PYTHONPATH", path_without("pypdfium2", tmp_path))
    monkeypatch.setattr(pool, "POOL", Pool())
    with pytest.raises(ModuleNotFoundError):
        found(tmp_path, {"a.pdf": HELLO}, "a.pdf")


def test_the_documents_of_a_file_are_listed_in_order(tmp_path: Path) -> None:
    path = project(tmp_path, {}, "a.pdf", None, 7, "sub/b.pdf")
    write(path, path.read_bytes() + b'{"queue": "a"}\nnot json\n')
    (file,) = files(path)
    folder = tmp_path / "data"
    assert list(documents_of(file, "file")) == [folder / "a.pdf", folder / "7", folder / "sub" / "b.pdf"]
