from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import BAD_INPUTS
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, Fault, Note, read, read_rows
from tunewright.data.readers.calls import read_calls
from tunewright.logs import LoggedCall
from tunewright.tasks import Example

GOOD = '{"text": "Grüße", "label": "a"}\n{"text": "two", "label": "b"}\n'


def write(folder: Path, content: str | bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(path)
    return caught.value.paragraph()


def test_each_row_comes_with_its_line_number(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, GOOD)) == [
        (1, {"text": "Grüße", "label": "a"}),
        (2, {"text": "two", "label": "b"}),
    ]


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    assert [number for number, _ in read_rows(write(tmp_path, '\n{"a": 1}\n  \n{"a": 2}'))] == [2, 4]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, GOOD.encode("utf-8-sig")))[0][1] == {"text": "Grüße", "label": "a"}


def test_windows_line_ends_leave_no_trace(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, GOOD.replace("\n", "\r\n"))) == read_rows(write(tmp_path, GOOD, "unix.jsonl"))


def test_a_unicode_line_separator_does_not_end_a_row(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, '{"text": "a\u2028b\x85c"}\n')) == [(1, {"text": "a\u2028b\x85c"})]


def test_latin_1_is_refused_with_its_line_and_a_fix(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, b'{"text": "plain"}\n' + '{"text": "Grüße"}\n'.encode("latin-1")))
    assert "data.jsonl:2" in message
    assert "byte 0xfc" in message
    assert "iconv -f WINDOWS-1252" in message


def test_utf_16_is_refused_with_a_fix_that_works(tmp_path: Path) -> None:
    assert "iconv -f UTF-16 " in refusal(write(tmp_path, GOOD.encode("utf-16")))


def test_a_cut_off_last_line_is_reported_as_cut_off(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, GOOD[:-12]))
    assert "data.jsonl:2: The last line is cut off" in message


@pytest.mark.parametrize("line", ["{'text': 'a'}", "text,label", '{"a": 1} {"a": 2}', '{"a": tru}'])
def test_a_whole_last_line_that_is_not_json_is_not_called_cut_off(line: str, tmp_path: Path) -> None:
    assert "is not JSON" in refusal(write(tmp_path, f'{{"a": 1}}\n{line}\n'))


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, '{"a": 1}\n{"a": \n{"a": 3}\n'))
    assert "data.jsonl:2: This line is not JSON" in message


@pytest.mark.parametrize(("line", "kind"), [('["a", "b"]', "list"), ('"a"', "str"), ("3", "int"), ("null", "NoneType")])
def test_a_line_that_is_no_object_is_refused(line: str, kind: str, tmp_path: Path) -> None:
    assert f"data.jsonl:1: This line is a JSON {kind}, not an object" in refusal(write(tmp_path, line))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_rows_is_refused(content: str, tmp_path: Path) -> None:
    assert "holds no rows" in refusal(write(tmp_path, content))


def test_an_absent_file_is_refused_with_its_path(tmp_path: Path) -> None:
    assert f"{tmp_path / 'absent.jsonl'}: There is no such data file" in refusal(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("name", ["data.xlsx", "data.json", "data"])
def test_another_format_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    assert "one of: .jsonl, .csv" in refusal(write(tmp_path, "just words\n", name))


def test_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    assert len(read_rows(write(tmp_path, GOOD, "DATA.JSONL"))) == 2


def test_deep_nesting_is_a_user_error(tmp_path: Path) -> None:
    assert "data.jsonl:1" in refusal(write(tmp_path, '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}\n"))


def test_half_a_surrogate_pair_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "data.jsonl:1" in refusal(write(tmp_path, '{"text": "half a smile: \\ud83d", "label": "a"}\n'))


def test_csv_with_quoted_commas_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,label\r\n"one, two\nthree",a\r\n"say ""hi""",b\r\n', "data.csv")
    assert [row for _, row in read_rows(path)] == [
        {"text": "one, two\nthree", "label": "a"},
        {"text": 'say "hi"', "label": "b"},
    ]


def test_csv_with_a_byte_order_mark_keeps_the_first_column_name(tmp_path: Path) -> None:
    assert list(read_rows(write(tmp_path, "text,label\nx,a\n".encode("utf-8-sig"), "data.csv"))[0][1]) == [
        "text",
        "label",
    ]


@pytest.mark.parametrize("row", ["only one", "one,two,three"])
def test_a_csv_row_with_another_number_of_fields_is_refused_with_its_line(row: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, f"text,label\nx,a\n{row}\n", "data.csv"))
    assert f"data.csv:3: This row has {row.count(',') + 1} fields, but the header has 2" in message


def test_an_open_quote_in_csv_is_refused(tmp_path: Path) -> None:
    assert "The CSV can't be read" in refusal(write(tmp_path, 'text,label\n"never closed,a\n', "data.csv"))


def test_a_csv_of_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert "holds no rows" in refusal(write(tmp_path, "text,label\n", "data.csv"))


def test_a_csv_field_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert read_rows(write(tmp_path, f"text,label\n{long},a\n", "data.csv"))[0][1]["text"] == long


def _shared(name: str) -> Path:
    return BAD_INPUTS / name


@pytest.mark.parametrize("name", ["00_good", "01_bom", "02_crlf", "03_cr_only", "10_no_final_newline"])
def test_a_shared_file_that_is_well_formed_is_read_like_the_control(name: str) -> None:
    read, control = (read_rows(_shared(f"{file}.jsonl")) for file in (name, "00_good"))
    assert len(read) == 6
    assert json.dumps(read) == json.dumps(control)


@pytest.mark.parametrize("name", ["13_json_array", "39_gzip"])
def test_a_shared_array_and_a_gzip_under_another_name_are_read(name: str) -> None:
    assert all("messages" in row for _, row in read_rows(_shared(f"{name}.jsonl")))


def test_the_lone_surrogate_in_the_shared_file_is_named() -> None:
    assert "35_unicode.jsonl:" in refusal(_shared("35_unicode.jsonl"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("04_utf16", "not UTF-8"),
        ("05_invalid_utf8", "05_invalid_utf8.jsonl:2: The file is not UTF-8: byte 0x"),
        ("06_latin1", "iconv"),
        ("07_nul", ":2"),
        ("09_truncated_last", "The last line is cut off"),
        ("12_empty_file", "holds no rows"),
        ("14_pretty_printed", ":1: This line is not JSON"),
        ("15_concatenated", ":1"),
        ("16_single_quotes", ":1: This line is not JSON"),
        ("36_deep_nesting", ":1"),
        ("37_huge_int", ":1"),
        ("38_not_jsonl", ":1: This line is not JSON"),
    ],
)
def test_a_shared_malformed_file_is_refused_with_its_place(name: str, expected: str) -> None:
    assert expected in refusal(_shared(f"{name}.jsonl"))


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\ntext;label\na;b\n",
        "\ufeffsep=;\r\ntext;label\r\na;b\r\n",
        "text,label,,\na,b,,\n",
        "text,label, \na,b,\n",
    ],
)
def test_what_excel_adds_to_a_table_is_left_out(content: str, tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text(content, "utf-8")
    (row,) = [row for _, row in read_rows(file)]
    assert row == {"text": "a", "label": "b"}


def test_pandas_index_has_no_name(tmp_path: Path) -> None:
    rows = [row for _, row in read_rows(write(tmp_path, ",text,label,\n0,a,b,\n1,c,d,\n", "d.csv"))]
    assert rows == [{"": "0", "text": "a", "label": "b"}, {"": "1", "text": "c", "label": "d"}]


def test_values_in_several_columns_without_a_name_are_a_fault(tmp_path: Path) -> None:
    file = write(tmp_path, "text,label,,\na,b,c,d\nd,e,,f\n", "d.csv")
    first, second = (each for each in read(file) if not isinstance(each, Note))
    assert isinstance(first, Fault)
    assert "values in several columns that the header does not name" in first.reason
    assert isinstance(second, Example)


def test_a_named_column_in_another_spelling_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text("Label,text\nb,a\n", "utf-8")
    (fault,) = read(file)
    assert isinstance(fault, Fault)
    assert fault.reason == "This row has no column 'label'. Did you mean 'Label'?"


def test_rows_of_a_form_of_their_own_are_faults_whatever_columns_are_named(tmp_path: Path) -> None:
    rows = [{"q": 1}] * 21 + [{"body": "hi", "kind": "a"}]
    file = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert all(isinstance(each, Fault) for each in read(file, columns=Columns("body", "kind")))


def test_a_failed_call_beside_stored_completions_is_a_failed_call(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    choice = {"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    rows = [
        {"request": {"messages": messages}, "response": {"choices": [choice]}},
        {"request": {"messages": messages}, "response": {"error": {"message": "rate limit", "code": 429}}},
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    good, failed = read(file)
    assert isinstance(good, Example)
    assert isinstance(failed, Fault)
    assert (failed.code, failed.reason) == ("call-failed", "The call failed: 429.")
    calls = list(read_calls(file))
    assert [call.fault and call.fault[0] for call in calls if isinstance(call, LoggedCall)] == [None, "failed"]
