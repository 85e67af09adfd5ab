from __future__ import annotations

import gzip
import json
import os
import socket
from dataclasses import fields
from pathlib import Path

import pytest

from tests.core.test_linear_time import ends_in_time
from tests.data.readers.helpers import lines, read_all, talk, write
from tunewright.config import SPEC_FILE
from tunewright.core.artifacts import atomic_folder
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, Fault, read_rows
from tunewright.data.readers.calls import read_calls
from tunewright.data.readers.sources import files
from tunewright.data.splits.frozen import FrozenVersion
from tunewright.labelling.writing import LabelReport

ROW = lines([talk()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl.gz", "sub/c.csv", "sub/deep/d.TSV", "README.md", ".hidden.jsonl", ".git/e.jsonl"):
        write(tmp_path / "data" / name, ROW)
    return tmp_path / "data"


def names(source: str | Path) -> list[str]:
    return [file.name for file in files(source)]


def test_a_file_is_itself(folder: Path) -> None:
    assert names(folder / "README.md") == ["README.md"]


def test_a_folder_gives_its_data_files_sorted(folder: Path) -> None:
    assert names(folder) == ["a.jsonl.gz", "b.jsonl", "sub/c.csv", "sub/deep/d.TSV"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl*", ["a.jsonl.gz", "b.jsonl"]),
        ("**/*.[ct]sv", ["sub/c.csv"]),
        ("*/c.?sv", ["sub/c.csv"]),
        ("sub/*", ["c.csv"]),
        ("**/*.jsonl", ["b.jsonl"]),
        ("**/deep/**/*", ["sub/deep/d.TSV"]),
        ("sub/**", ["c.csv", "deep/d.TSV"]),
        ("*", ["README.md", "a.jsonl.gz", "b.jsonl"]),
    ],
)
def test_a_pattern_gives_the_matching_files(pattern: str, expected: list[str], folder: Path) -> None:
    assert names(folder / pattern) == expected


def test_a_relative_pattern(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names("*.jsonl") == ["b.jsonl"]
    assert names("sub/*.csv") == ["c.csv"]


def test_a_name_that_looks_like_a_pattern_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    assert names(write(tmp_path / "[1] *.jsonl", ROW)) == ["[1] *.jsonl"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [("gone.jsonl", "no such data file"), ("*.none", "No file matches"), ("empty", "No data file")],
)
def test_nothing_to_read_is_a_user_error(source: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=reason):
        files(tmp_path / source)


def test_the_source_of_an_example_does_not_depend_on_the_datas_folder(tmp_path: Path) -> None:
    read = [read_all(write(tmp_path / place / "sub" / "a.jsonl", ROW).parents[1]) for place in ("here", "there")]
    assert read[0].examples == read[1].examples
    assert read[0].example.meta.source == "sub/a.jsonl:1"


@pytest.mark.parametrize("name", ["d.json", "d.txt", "d", "d.ndjson", "d.JSONL"])
def test_json_is_known_by_its_first_character(name: str, tmp_path: Path) -> None:
    assert len(read_all(write(tmp_path / name, "\n " + ROW)).examples) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("d.xlsx", b"PK\x03\x04rest", "zip archive or an Excel"),
        ("d.jsonl", b"PK\x03\x04", "Excel"),
        ("d.md", b"# Title", "one of: .jsonl, .csv"),
        ("d", b"", "one of: .jsonl, .csv"),
    ],
)
def test_another_format_is_a_fault_with_a_fix(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / name, content))
    assert found.placed == [(1, "format")]
    assert reason in found.fault.reason


@pytest.mark.parametrize(
    "pattern", ["**/*.csv", "*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*.csv", "**/*/**/*.csv"]
)
def test_links_that_go_round_are_followed_once(pattern: str, folder: Path) -> None:
    for link in ("one", "two", "sub/three", "sub/four"):
        (folder / link).symlink_to(folder)
    other = folder.parent / "other"
    write(other / "linked.csv", ROW)
    (folder / "five").symlink_to(other)

    def read() -> None:
        assert len(names(folder / pattern)) <= 2

    assert ends_in_time(read)
    assert names(folder / "**/*.csv") == ["five/linked.csv", "sub/c.csv"]


def test_a_path_that_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "socket.jsonl"))
    bound.close()
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name, what in (("pipe.jsonl", "a pipe"), ("socket.jsonl", "a socket"), ("zero.csv", "a device")):
        with pytest.raises(UserError, match=f"This is {what}, not a file"):
            files(tmp_path / name)
        with pytest.raises(UserError, match=f"This is {what}, not a file"):
            read_rows(Path(tmp_path / name))
    with pytest.raises(UserError, match="no such data file"):
        files(tmp_path / "loop.csv")
    with pytest.raises(UserError, match="name too long"):
        files(tmp_path / ("x" * 5000))
    write(tmp_path / "good.jsonl", ROW)
    assert names(tmp_path) == ["good.jsonl"], "in a folder they are left out"


# .json files beside data files

LABELLED = {"body": "a", "queue": "b"}
OTHERS = {
    "settings.json": {"theme": "dark"},
    "manifest.json": {"step": "train", "inputs": {"split": "3fa9"}, "result": {"rows": 9}, "seed": 0},
    "verdict.json": {"verdict": {"answer": "yes", "reasons": ["It is right."]}, "candidates": [{"name": "encoder"}]},
    "labels.json": {"requests": 9, "left_out": {}, "asked": 9, "usd": 0.1, "training": 8, "test": 1},
    "version.json": {"number": 1, "previous": None, "files": {}, "examples": {"test": {"test-1": "00"}}},
    "job.json": {"name": "sort", "kind": "chat", "template": "AA==", "answer": "label"},
    "page.json": {"pages": [{"words": [{"content": "Total", "polygon": [0, 1]}]}]},
    "numbers.json": [1, 2],
    "empty.json": "",
    "broken.json": '[{"text": "a", ',
}
"""What lies beside data, and is none."""


def write_others(folder: Path) -> None:
    for name, content in OTHERS.items():
        write(folder / name, content if isinstance(content, str) else json.dumps(content, indent=1))


def test_a_folders_json_files_are_data_if_their_rows_have_a_known_form(tmp_path: Path) -> None:
    write(tmp_path / "2026-01.jsonl", lines([talk("one")]))
    write(tmp_path / "2026-02.json", json.dumps([talk("two"), talk("three")], indent=1))
    write(tmp_path / "sub" / "2026-03.json.gz", gzip.compress(lines([talk("four")]).encode()))
    found = read_all(tmp_path)
    assert (found.requests, found.faults) == (["one", "two", "three", "four"], [])
    assert [row for _, row in read_rows(tmp_path)] == [talk(each) for each in ("one", "two", "three", "four")]
    assert len(list(read_calls(tmp_path))) == 4


def test_other_json_files_are_left_out_with_a_note(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROW)
    write_others(tmp_path)
    found = read_all(tmp_path)
    assert (len(found.examples), found.faults) == (1, [])
    assert sorted(Path(each.where).name for each in found.notes) == sorted(f"{name}:1" for name in OTHERS)
    assert {each.code for each in found.notes} == {"left-out"}
    assert "name it" in found.notes[0].reason
    assert len(read_rows(tmp_path)) == 1
    unread = [each for each in read_calls(tmp_path) if isinstance(each, Fault)]
    assert len(unread) == len(OTHERS)
    assert read_all(tmp_path / "settings.json").placed == [(1, "form")], "by its name it is data"


def test_whoever_reads_plain_rows_hears_which_files_were_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `init` and `label` do."""
    write(tmp_path / "a.jsonl", ROW)
    read_rows(tmp_path)
    assert capsys.readouterr().err == ""
    write_others(tmp_path)
    read_rows(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{len(OTHERS)} files were left out, because they may be no data")
    assert "broken.json, empty.json, job.json and 7 more." in line


def test_named_columns_tell_what_is_data(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines([LABELLED]))
    write(tmp_path / "b.json", json.dumps([LABELLED]))
    assert len(read_all(tmp_path, columns=Columns(text="body", label="queue")).examples) == 2
    assert [Path(each.where).name for each in read_all(tmp_path).notes] == ["b.json:1"]


def test_documents_in_json_are_no_data(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", lines([{"file": "a.hocr.json", "label": "b"}] * 2))
    write(tmp_path / "a.hocr.json", json.dumps(OTHERS["page.json"]))
    found = read_all(tmp_path, columns=Columns(document="file"))
    assert found.notes == []
    assert len(found.faults) + len(found.examples) == 2


def test_json_files_alone_are_what_the_user_means(tmp_path: Path) -> None:
    write(tmp_path / "a.json", json.dumps([talk()]))
    write(tmp_path / "b.json", '[{"theme": "dark"}]')
    found = read_all(tmp_path)
    assert len(found.examples) == 1
    assert found.placed == [(1, "form")]


# What Tunewright wrote


def write_step_output(folder: Path) -> None:
    with atomic_folder(
        folder, kind="split", fingerprint="0", spec_sha256="0", inputs={}, seed=0, code_version="0"
    ) as output:
        write(output.path / "train.jsonl", ROW)
        write(output.path / "test" / "test.jsonl", ROW)


def keys_of(kind: type) -> str:
    return json.dumps({field.name: None for field in fields(kind)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project beside its data, with outputs of every kind."""
    write(tmp_path / "train.csv", "text,label\na,b\n")
    write(tmp_path / SPEC_FILE, "name: x")
    write_step_output(tmp_path / "runs" / "split-0")
    write_step_output(tmp_path / "elsewhere" / "split-0")
    (tmp_path / "runs" / "latest").mkdir()
    (tmp_path / "runs" / "latest" / "split").symlink_to(tmp_path / "runs" / "split-0")
    for name, content in {
        "runs/answers.jsonl": ROW,
        "captures/exchanges-1.jsonl": ROW,
        "other/captures-20261031T101112-0123abcd.jsonl": ROW,
        "frozen_test/1/version.json": keys_of(FrozenVersion),
        "frozen_test/1/test/test.jsonl": ROW,
        "labels/labels.json": keys_of(LabelReport),
        "labels/train.jsonl": ROW,
        "data-check/findings.json": "{}",
        "data-check/suspects.jsonl": ROW,
        "answers.jsonl.parts/job.json": "{}",
        "answers.jsonl.parts/000000.jsonl": ROW,
    }.items():
        write(tmp_path / name, content)
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "**/*.*l*", "*/*.jsonl"])
def test_a_projects_outputs_are_no_source(pattern: str, project: Path) -> None:
    write(project / "more" / "a.jsonl", ROW)
    found = [name for name in names(project / pattern) if name not in (SPEC_FILE, "train.csv")]
    assert [name for name in found if not name.startswith("other/")] == ["more/a.jsonl"]
    assert ("other/captures-20261031T101112-0123abcd.jsonl" in found) == bool(pattern), "a pattern names it"


def test_an_output_that_is_named_is_a_source(project: Path) -> None:
    assert names(project / "runs" / "split-0") == ["manifest.json", "test/test.jsonl", "train.jsonl"]
    assert names(project / "runs" / "split-*" / "*.jsonl") == ["split-0/train.jsonl"]
    assert names(project / "captures") == ["exchanges-1.jsonl"]
    assert names(project / "labels" / "*.jsonl") == ["train.jsonl"]
    with pytest.raises(UserError, match=r"No data file is in this folder.*What Tunewright itself wrote is left out"):
        files(project / "runs" / "latest")


def test_folders_of_other_programs_with_such_names_are_read(tmp_path: Path) -> None:
    others = {"manifest.json": '{"files": []}', "version.json": '{"number": 2}', "labels.json": "[]", "job.json": "{"}
    for name, content in others.items():
        write(tmp_path / "sub" / name, content)
    for place in ("sub", "runs", "captures", "old.parts"):
        write(tmp_path / place / "a.jsonl", ROW)
    assert [name for name in names(tmp_path) if name.endswith("l")] == [
        *("captures/a.jsonl", "old.parts/a.jsonl", "runs/a.jsonl", "sub/a.jsonl")
    ]


# Files that a folder must not lose

ROTATED = ("app.jsonl.1", "app.jsonl.2026-10-31", "app.jsonl-20261031.gz", "app.jsonl.2.gz", "old.csv.2026-10-31_12")


def test_rotated_files_are_read(tmp_path: Path) -> None:
    for name in ROTATED:
        content = ("text,label\nhi,hello\n" if ".csv" in name else ROW).encode()
        write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    write(tmp_path / "app.jsonl.bak~", ROW)
    assert names(tmp_path) == sorted(ROTATED)
    found = read_all(tmp_path)
    assert (found.requests, found.faults) == (["hi"] * len(ROTATED), [])


def test_logs_are_data_if_their_rows_have_a_known_form(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROW)
    write(tmp_path / "sept.log", lines([talk("one")]))
    write(tmp_path / "oct.log.1", lines([talk("two")]))
    write(tmp_path / "app.log", lines([{"level": "info"}]))
    write(tmp_path / "plain.log", "[2026-10-31] started\n" * 5000)
    write(tmp_path / "book.xlsx", b"PK\x03\x04rest")
    found = read_all(tmp_path)
    assert (found.requests, found.faults) == (["hi", "two", "one"], [])
    assert [Path(each.where).name for each in found.notes] == ["app.log:1", "book.xlsx:1", "plain.log:1"]
    assert {each.code for each in found.notes} == {"left-out"}
    assert "Excel" in found.notes[1].reason


def test_files_of_the_surest_kind_are_what_the_user_means(tmp_path: Path) -> None:
    write(tmp_path / "nohup.log", "started\n")
    write(tmp_path / "book.xlsx", b"PK\x03\x04rest")
    assert len(read_all(tmp_path).faults) == 1
    write(tmp_path / "a.json", json.dumps([talk()]))
    assert read_all(tmp_path).faults == []


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "old" / "a.jsonl", ROW)
    write(tmp_path / "data" / "sub" / "b.jsonl", ROW)
    write(tmp_path / "c.jsonl", ROW)
    data = tmp_path / "data"
    for name, target in {"link": "../old", "again": "../old", "sub/round": "..", "up": "..", "a_sub": "sub"}.items():
        (data / name).symlink_to(target)
    assert names(data) == ["again/a.jsonl", "sub/b.jsonl"]
    assert len(read_all(data).examples) == 2


@pytest.mark.parametrize("pattern", ["", "**/*.*", "*/*"])
def test_what_cannot_be_read_below_a_folder_is_named_once(
    pattern: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub" / "gone.jsonl").symlink_to("nowhere.jsonl")
    write(folder / "sub" / "closed" / "x.jsonl", ROW)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")  # noqa: ARG005
    for _ in range(2):
        assert "sub/c.csv" in names(folder / pattern)
        assert not [name for name in names(folder / pattern) if name.endswith("x.jsonl")]
    said = capsys.readouterr().err
    assert said.count("sub/gone.jsonl") == 1 and said.count("left out") == 1
    assert ("sub/closed" in said) == (pattern != "*/*"), "whose files the pattern does not ask for"


def test_a_folder_without_anything_broken_says_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".gone").symlink_to("nowhere")
    assert names(folder) and names(folder / "**/*.csv")
    assert not capsys.readouterr().err
