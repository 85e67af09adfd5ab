from __future__ import annotations

import datetime
import gzip
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.readers.helpers import read_all, talk, write
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, read

pairs = [("one, two\nthree", "a"), ('say "hi"', "b"), ("Grüße\u2028", "c")]
CSV = 'text,label\r\n"one, two\nthree",a\r\n\r\n"say ""hi""",b\r\nGrüße\u2028,c\r\n'


def pairs_of(path: Path) -> list[tuple[str, str]]:
    found = read_all(path)
    assert not found.faults
    return [(e.request, e.answer) for e in found.examples]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv"])
def test_the_delimiter_is_detected(mark: str, name: str, tmp_path: Path) -> None:
    content = f'text{mark}label{mark}"a,b;c"\n"x{mark}y"{mark}z{mark}1\n'
    found = read_all(write(tmp_path / name, content))
    assert (found.example.request, found.example.answer) == (f"x{mark}y", "z")
    assert found.example.meta.extra == {"a,b;c": "1"}


def test_csv_with_quotes_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    assert pairs_of(write(tmp_path / "d.csv", CSV)) == pairs


def test_a_csv_row_is_named_by_the_line_it_begins_in(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.csv", CSV))
    assert [e.meta.source for e in found.examples] == ["d.csv:2", "d.csv:5", "d.csv:6"]


@pytest.mark.parametrize("name", ["d.csv.gz", "d.csv"])
def test_gzipped_csv(name: str, tmp_path: Path) -> None:
    assert pairs_of(write(tmp_path / name, gzip.compress(CSV.encode()))) == pairs


def test_csv_with_bare_carriage_returns_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\ra,b\rc,d\r".encode("utf-8-sig"))
    assert pairs_of(path) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("one", "fields"),
        ("one,two,three", "fields"),
        ('"a"b,c', "csv"),
        ("a,", "empty-answer"),
        ("x" * 200_000, "fields"),
    ],
)
def test_a_bad_csv_row_is_named_and_its_neighbours_are_read(row: str, code: str, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.csv", f"text,label\na,b\n{row}\nc,d\n"))
    assert found.requests == ["a", "c"]
    assert found.placed == [(3, code)]
    assert found.fault.raw


def test_a_csv_row_with_bad_bytes_is_named_and_its_neighbours_are_read(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.csv", b"text,label\na,b\ncaf\xe9,x\nc,d\n"))
    assert found.requests == ["a", "c"]
    assert found.placed == [(3, "encoding")]
    assert "byte 0xe9" in found.fault.reason


def test_an_open_quote_names_all_the_lines_it_took(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.csv", 'text,label\na,b\n"open,c\nd,e\n'))
    assert found.placed == [(3, "csv")]
    assert "lines 3 to 4" in found.fault.reason
    assert found.fault.raw == '"open,c\nd,e\n'


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n", "\ufefftext,label"])
def test_a_csv_without_rows_is_one_fault(content: str, tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "d.csv", content)).placed == [(1, "empty")]


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "d.csv", "text,label,text\na,b,c\n")).placed == [(1, "header")]


def test_weights_and_nul_characters_in_csv(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.csv", "text,label,weight\na,b,0.5\nc\0,d,\ne,f,much\n"))
    assert [(e.request, e.weight) for e in found.examples] == [("a", 0.5), ("c\0", 1.0)]
    assert (found.placed, found.noted) == ([(4, "weight")], [(3, "nul")])


def test_blanks_before_quotes_are_no_part_of_a_value(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", '"text", "label"\n"a, ""b""",  "billing"\n"c, ","x"\n')
    assert pairs_of(path) == [('a, "b"', "billing"), ("c, ", "x")]
    plain = write(tmp_path / "plain.csv", 'text,label\n"he said, ""no""", refund\n"ends, ",b\n')
    assert pairs_of(plain) == [('he said, "no"', " refund"), ("ends, ", "b")]


def test_a_header_that_comes_again_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,b\n\ufefftext,label\nc,d\n")
    found = read_all(path)
    assert (found.requests, found.faults, found.noted) == (["a", "c"], [], [(3, "repeated-header")])


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_of_columns(tmp_path: Path) -> None:
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)
    rows = [{"text": "a", "label": "x", "day": day, "score": float("nan"), "raw": b"z", "gone": None}] * 3000
    found = read_all(parquet(tmp_path / "d.parquet", rows), columns=Columns(time="day"))
    assert len(found.examples) == 3000
    last = found.examples[-1]
    assert (last.request, last.answer, last.meta.time) == ("a", "x", "2026-01-02T03:04:05")
    assert (last.meta.source, last.meta.extra["score"]) == ("d.parquet:3000", None)


@pytest.mark.parametrize("name", ["d.parquet.gz", "d.parquet", "d.bin"])
def test_parquet_is_known_by_its_bytes_also_gzipped(name: str, tmp_path: Path) -> None:
    plain = parquet(tmp_path / "plain.parquet", [{"text": "a", "label": "x"}]).read_bytes()
    packed = gzip.compress(plain) if name != "d.bin" else plain
    assert pairs_of(write(tmp_path / name, packed)) == [("a", "x")]


@pytest.mark.parametrize(("kind", "values"), [("timestamp[us]", [1, -(1 << 62), 2]), ("date32[day]", [1, 1 << 30, 2])])
def test_an_invalid_date_loses_only_its_row(kind: str, values: list[int], tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    whole = pyarrow.int64() if kind.startswith("timestamp") else pyarrow.int32()
    days = pyarrow.array(values, whole).view(pyarrow.type_for_alias(kind))
    table = pyarrow.table({"text": ["a", "b", "c"], "label": ["x", "y", "z"], "day": days})
    pq.write_table(table, tmp_path / "d.parquet")
    found = read_all(tmp_path / "d.parquet")
    assert [(each.request, each.answer) for each in found.examples] == [("a", "x"), ("c", "z")]
    assert found.placed == [(2, "parquet")]


def test_chat_in_parquet(tmp_path: Path) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    called = {"role": "assistant", "content": None, "tool_calls": calls}
    rows = [talk(), {"messages": [{"role": "user", "content": "q"}, called]}]
    found = read_all(parquet(tmp_path / "d.parquet", rows))
    assert not found.faults
    assert found.examples[0].messages[1].tool_calls is None
    assert found.examples[1].messages[1].tool_calls == calls


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 and then junk PAR1", b"no parquet at all"])
def test_broken_parquet_is_one_fault(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert read_all(write(tmp_path / "d.parquet", content)).placed == [(1, "parquet")]


def test_parquet_without_its_library_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        list(read(write(tmp_path / "d.parquet", b"PAR1")))
