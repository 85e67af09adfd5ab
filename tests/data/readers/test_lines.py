from __future__ import annotations

import gzip
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.data.readers.helpers import lines, read_all, talk, write
from tunewright.core.errors import UserError
from tunewright.data.readers import jsonl as jsonl_module
from tunewright.data.readers import lines as lines_module
from tunewright.data.readers import read_rows
from tunewright.data.readers.lines import raw_lines, text_lines

GOOD = lines(talk(f"question {n}", "yes") for n in range(4))


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.jsonl", "d.gz", "D.JSONL.GZ"])
def test_gzip_is_known_by_its_bytes(name: str, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / name, gzip.compress(GOOD.encode())))
    assert found.requests == [f"question {n}" for n in range(4)]
    assert found.noted == ([] if name.lower().endswith(".gz") else [(1, "gzip")])


def test_plain_text_under_a_gz_name_is_read(tmp_path: Path) -> None:
    assert len(read_all(write(tmp_path / "d.jsonl.gz", GOOD)).examples) == 4


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD.encode())
    assert len(read_all(write(tmp_path / "d.jsonl.gz", packed + packed)).examples) == 8


def test_a_gzip_file_cut_off_keeps_the_lines_before_and_reports_it(tmp_path: Path) -> None:
    many = lines(talk(f"question {n * 7919 % 10007}", "yes") for n in range(5000))
    packed = gzip.compress(many.encode())
    found = read_all(write(tmp_path / "d.jsonl.gz", packed[: len(packed) // 2]))
    assert len(found.examples) > 1000
    assert found.fault.code == "gzip"
    assert "cut off or damaged" in found.fault.reason


@pytest.mark.parametrize("damage", [b"\x1f\x8b", b"\x1f\x8bjunk", b"\x1f\x8b\x08" + b"\xff" * 40])
def test_broken_gzip_is_a_fault_and_no_exception(damage: bytes, tmp_path: Path) -> None:
    for name in ("d.jsonl", "d.jsonl.gz", "d.csv.gz", "d.parquet"):
        assert {code for _, code in read_all(write(tmp_path / name, damage)).placed} <= {"gzip", "parquet"}
        assert read_all(tmp_path / name).faults


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32"), ("utf-32-be", "UTF-32")],
)
def test_wide_encodings_are_one_fault_for_the_file(encoding: str, named: str, tmp_path: Path) -> None:
    for name in ("d.jsonl", "d.csv"):
        found = read_all(write(tmp_path / name, ("\ufeff" * encoding.endswith("be") + GOOD).encode(encoding)))
        assert found.placed == [(1, "encoding")]
        assert f"iconv -f {named} " in found.fault.reason


@pytest.mark.parametrize(("encoding", "named"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")])
def test_utf_16_without_its_mark_is_known_too(encoding: str, named: str, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", GOOD.encode(encoding)))
    assert found.placed == [(1, "encoding")]
    assert f"iconv -f {named} " in found.fault.reason


def test_lines_are_not_cut_at_other_unicode_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "a\u2028b\x85c\x0bd\x0c\x1ce\r\n\nf")
    assert list(text_lines(path)) == [(1, "a\u2028b\x85c\x0bd\x0c\x1ce"), (3, "f")]


def test_a_file_of_bare_carriage_returns_keeps_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "Grüße\r\rzwei".encode())
    assert [item for item in text_lines(path) if isinstance(item, tuple)] == [(1, "Grüße"), (3, "zwei")]


def test_a_bare_carriage_return_in_a_file_with_line_feeds_ends_no_line(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "a\rb\nc\n")
    assert list(raw_lines(path)) == [(1, b"a\rb\n"), (2, b"c\n")]


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_line_without_bound_is_a_fault_and_the_next_is_read(
    end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    path = write(tmp_path / "d", b"short" + end + b"x" * 1234 + end + b"after" + end)
    found = [item if isinstance(item, tuple) else item.code for item in text_lines(path)]
    assert found == [*(["cr"] if end == b"\r" else []), (1, "short"), "long", (3, "after")]


def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 6)
    assert list(text_lines(write(tmp_path / "d", b"fives\nabc\n"))) == [(1, "fives"), (2, "abc")]


def test_the_raw_text_of_a_fault_is_kept_and_cut(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", b'{"a": "\xff' + b"x" * 5000 + b'"}\n'))
    assert found.fault.raw.startswith('{"a": "\\xffxxx')
    assert len(found.fault.raw) < 2010


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "d.jsonl.gz"
    with gzip.open(path, "wb", 1) as stream:
        for _ in range(300):
            stream.write(GOOD.encode() * 100)
    tracemalloc.start()
    assert sum(isinstance(item, tuple) for item in text_lines(path)) == 120_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("name", ["file.jsonl/inside.jsonl", "absent.csv", "absent.parquet"])
def test_a_path_that_is_no_file_is_a_user_error(name: str, tmp_path: Path) -> None:
    write(tmp_path / "file.jsonl", GOOD)
    with pytest.raises(UserError, match="no such data file"):
        read_rows(tmp_path / name)


# Commands that are printed


def typed(reason: str) -> str:
    return reason.partition("ype: ")[2].removesuffix("  and name that file instead.")


@pytest.mark.parametrize("name", ["the 'old' data.jsonl", "a b.json", "it's.csv.gz", "packed.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "windows-1252"])
def test_the_command_for_another_encoding_can_be_typed(
    name: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = ("text,label\nGrüße,a\n" if "csv" in name else lines([talk("Grüße")])).encode(encoding)
    write(Path("my data") / name, gzip.compress(content) if "gz" in name or "packed" in name else content)
    fault = read_all(Path("my data") / name).fault
    assert fault.code == "encoding"
    subprocess.run(typed(fault.reason), shell=True, check=True)
    (written,) = (path for path in tmp_path.iterdir() if path.is_file())
    assert written.name == f"utf8-{name.removesuffix('.gz')}"
    assert read_all(written).requests == ["Grüße"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_page_that_is_too_long_names_the_list_in_it(
    indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    monkeypatch.setattr(jsonl_module, "MAX_LINE", 100)
    page = {"object": "list", "first": {"data": [{}]}, "names": ["a"], "my rows": [talk(), talk()]}
    reason = read_all(write(tmp_path / "my page.json", json.dumps(page, indent=indent))).fault.reason
    command = shlex.split(typed(reason).partition(" > ")[0])
    assert command == ["jq", "-c", '.["my rows"][]', str(tmp_path / "my page.json")]
    page["data"] = page.pop("my rows")
    reason = read_all(write(tmp_path / "d.json", json.dumps(page, indent=indent))).fault.reason
    assert typed(reason) == f"jq -c '.data[]' {tmp_path / 'd.json'} > rows-d.json"


def test_rows_that_are_too_long_are_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    monkeypatch.setattr(jsonl_module, "MAX_LINE", 100)
    long = json.dumps(talk("x" * 200))
    assert "jq" not in read_all(write(tmp_path / "d.jsonl", long)).fault.reason
    rows = "\n".join(json.dumps({"id": n, "spans": [{"a": 1}]}, indent=2) for n in range(9))
    reason = read_all(write(tmp_path / "my rows.jsonl.gz", gzip.compress(rows.encode()))).fault.reason
    place = shlex.quote(str(tmp_path / "my rows.jsonl.gz"))
    assert typed(reason) == f"zcat < {place} | jq -c . > 'lines-my rows.jsonl'"
