from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.readers.helpers import lines, read_all, talk, write
from tunewright.data.readers import Fault, array, read
from tunewright.data.readers import lines as lines_module

ROW = json.dumps(talk())


def one(line: str, tmp_path: Path) -> tuple[str, str]:
    """(code, reason) of a line between two good ones, which must be read."""
    found = read_all(write(tmp_path / "d.jsonl", f"{ROW}\n{line}\n{ROW}\n"))
    assert len(found.examples) == 2
    assert found.fault.where.endswith("d.jsonl:2")
    return found.fault.code, found.fault.reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_values_that_are_no_json_numbers_are_refused(number: str, tmp_path: Path) -> None:
    code, reason = one(f'{{"a": {number}}}', tmp_path)
    assert code == "nan"
    assert number in reason


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ROW + ROW, "json"),
        (ROW + " " + ROW, "json"),
        (ROW + ",", "json"),
        ("{'a': 1}", "python"),
        ('{"a": None}', "python"),
        ('{"a": [True]}', "python"),
        ('{"a": "tab\there"}', "control"),
        ('{"a": "\x01"}', "control"),
        ('{"a": tru}', "json"),
        ("plain, text", "json"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
        ('{"a": ' + "9" * 5000 + "}", "number"),
        ('{"a": ' + "[" * 150 + "]" * 150 + "}", "nesting"),
        ('{"a": ' * 100_000, "nesting"),
        ("[1]", "shape"),
        ("3", "shape"),
        ('{"a": ', "json"),
    ],
)
def test_a_bad_line_is_named_and_its_neighbours_are_read(line: str, expected: str, tmp_path: Path) -> None:
    assert one(line, tmp_path)[0] == expected


def test_whole_surrogate_pairs_are_text(tmp_path: Path) -> None:
    row = json.dumps(talk("😀 Grüße"), ensure_ascii=True)
    assert read_all(write(tmp_path / "d.jsonl", row)).requests == ["😀 Grüße"]


def test_a_hundred_levels_are_read_and_written(tmp_path: Path) -> None:
    nested: object = 1
    for _ in range(98):
        nested = [nested]
    found = read_all(write(tmp_path / "d.jsonl", lines([talk(deep=nested)])))
    assert found.example.row()["meta"]["extra"] == {"deep": nested}


def test_repeated_keys_anywhere_are_noted(tmp_path: Path) -> None:
    row = ROW.replace('"role": "user"', '"role": "assistant", "role": "user"')
    found = read_all(write(tmp_path / "d.jsonl", f"{row}\n{ROW}\n"))
    assert found.noted == [(1, "repeated-key")]
    assert len(found.examples) == 2


def test_good_rows_after_pretty_printed_ones_are_read(tmp_path: Path) -> None:
    pretty = json.dumps(talk(), indent=2)
    found = read_all(write(tmp_path / "d.jsonl", f"{pretty}\n{pretty}\n{ROW}\n"))
    assert len(found.examples) == 1
    assert found.placed == [(1, "pretty-printed")]


def test_good_rows_after_a_csv_header_are_read(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", f"text,label\na,b\n{ROW}\n"))
    assert len(found.examples) == 1
    assert found.placed == [(1, "csv")]


@pytest.mark.parametrize("cut", range(1, len(ROW) - 1))
def test_a_last_line_cut_anywhere_is_reported_as_cut_off(cut: int, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", f"{ROW}\n{ROW[:cut]}"))
    assert (len(found.examples), found.placed) == (1, [(2, "truncated")])


@pytest.mark.parametrize("indent", [None, 0, 1, 4])
def test_an_array_is_read_with_its_line_numbers(indent: int | None, tmp_path: Path) -> None:
    content = json.dumps([talk(f"question {n}") for n in range(50)], indent=indent)
    found = read_all(write(tmp_path / "d.json", content))
    assert found.requests == [f"question {n}" for n in range(50)]
    assert found.noted == [(1, "array")]
    begins = [n for n, line in enumerate(content.split("\n"), 1) if line.strip() == "{"] if indent is not None else []
    at = [int(str(e.meta.source).rpartition(":")[2]) for e in found.examples]
    assert at == (begins[::3] if begins else [1] * 50)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_an_array_read_in_small_pieces_is_the_same(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "_CHUNK", chunk)
    rows = [talk(f"Grüße 😀 {n}", n=-12.5e3) for n in range(5)]
    found = read_all(write(tmp_path / "d.jsonl", json.dumps([*rows, 1234567, "text", None], ensure_ascii=False)))
    assert [(e.request, e.meta.extra) for e in found.examples] == [(f"Grüße 😀 {n}", {"n": -12500.0}) for n in range(5)]
    assert [fault.raw for fault in found.faults] == ["1234567", '"text"', "null"]


@pytest.mark.parametrize(
    ("content", "count", "code"),
    [
        (f"[{ROW}, {ROW}", 2, "truncated"),
        (f"[{ROW}, {ROW[:30]}", 1, "truncated"),
        (f"[{ROW}, {{'a': 1}}, {ROW}]", 1, "json"),
        (f'[{ROW}, {{"a": NaN}}, {ROW}]', 1, "nan"),
        (f"[\n{ROW}]\n{ROW}", 1, "json"),
        (f"[{ROW}, 3]", 1, "shape"),
        (f"[{ROW}, {'[' * 100_000}", 1, "nesting"),
    ],
)
def test_a_broken_array_keeps_the_elements_before(content: str, count: int, code: str, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", content))
    assert (len(found.examples), found.fault.code) == (count, code)


def test_a_broken_element_is_reported_before_more_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "_CHUNK", 1000)
    sizes: list[int] = []
    chunks = array._chunks

    def counted(path: Path) -> Iterator[str]:
        for chunk in chunks(path):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(array, "_chunks", counted)
    (*_, fault) = array.rows(write(tmp_path / "d.jsonl", f"""[{{"text" "a"}}, {", ".join([ROW] * 1000)}]"""))
    assert isinstance(fault, Fault) and (fault.where[-2:], fault.code) == (":1", "json")
    assert sum(sizes) <= 2000


@pytest.mark.parametrize("head", [[], [ROW]])
def test_faults_are_passed_on_as_they_come(head: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", "\n".join([*head, *["{'text': 'a'}"] * 20_000, ""]))
    tracemalloc.start()
    try:
        codes = Counter(getattr(item, "code", "row") for item in read(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes["python"] == 20_000 and codes["row"] == len(head)
    assert peak < 3 << 20, "20,000 faults take 10 MB"


def test_bad_bytes_in_an_array_are_named(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", f"[{ROW},\n".encode() + b'{"a": "\xff"}]'))
    assert found.fault.code == "encoding"
    assert "byte 0xff" in found.fault.reason


def test_an_element_beyond_the_limit_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "MAX_LINE", 1000)
    monkeypatch.setattr(array, "_CHUNK", 64)
    found = read_all(write(tmp_path / "d.jsonl", json.dumps([talk(), talk("x" * 10_000)])))
    assert len(found.examples) == 1
    assert found.faults


def test_lines_that_hold_a_list_each_are_no_array(tmp_path: Path) -> None:
    content = lines([talk()["messages"]] * 2)
    assert read_all(write(tmp_path / "d.jsonl", content)).placed == [(1, "shape"), (2, "shape")]


def test_an_array_longer_than_a_line_may_be_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 100)
    assert len(read_all(write(tmp_path / "d.jsonl", json.dumps([talk()] * 20))).examples) == 20


def test_quoted_csv_under_a_jsonl_name_is_one_fault(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", '"text","label"\n"a","b"\n"c","d"\n'))
    assert found.placed == [(1, "csv")]
    assert "lines 1 to 3" in found.fault.reason


def test_a_row_broken_by_a_line_end_in_its_text_is_one_fault(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", ROW + "\n" + ROW.replace("hello", "one\ntwo") + "\n" + ROW + "\n"))
    assert (len(found.examples), found.placed) == (2, [(2, "pretty-printed")])
    assert "lines 2 to 3" in found.fault.reason


def test_a_last_line_cut_within_a_character_is_reported_as_cut_off(tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", f'{ROW}\n{{"a": "ü'.encode()[:-1]))
    assert found.placed == [(2, "truncated")]
