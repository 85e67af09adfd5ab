from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.core.test_linear_time import ends_in_time
from tests.data.readers.helpers import lines, read_all, talk, write
from tunewright.core.errors import UserError
from tunewright.data.readers import read_rows
from tunewright.data.readers.sources import files

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
