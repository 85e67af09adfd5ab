"""The shared malformed files: the examples, faults and notes of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import BAD_INPUTS
from tests.data.readers.helpers import Read, read_all
from tunewright.data.readers import Columns, quarantine_line, write_chat

# file: (examples, faults as (line, code), notes as (line, code))
CASES: dict[str, tuple[int, list[tuple[int, str]], list[tuple[int, str]]]] = {
    "00_good": (6, [], []),
    "01_bom": (6, [], [(1, "bom")]),
    "02_crlf": (6, [], []),
    "03_cr_only": (6, [], [(1, "cr")]),
    "04_utf16": (0, [(1, "encoding")], []),
    "05_invalid_utf8": (2, [(2, "encoding")], []),
    "06_latin1": (0, [(1, "encoding")], []),
    "07_nul": (1, [(2, "control")], []),
    "08_nul_escaped": (1, [], [(1, "nul")]),
    "09_truncated_last": (5, [(6, "truncated")], []),
    "10_no_final_newline": (6, [], []),
    "11_blank_lines": (2, [], []),
    "12_empty_file": (0, [(1, "empty")], []),
    "13_json_array": (6, [], [(1, "array")]),
    "14_pretty_printed": (0, [(1, "pretty-printed")], []),
    "15_concatenated": (0, [(1, "json")], []),
    "16_single_quotes": (0, [(1, "python")], []),
    "17_nan_and_dupkeys": (1, [(1, "nan")], [(2, "repeated-key")]),
    "18_wrong_roles": (0, [(n, "role") for n in (1, 2, 3, 4)], []),
    "19_empty_assistant": (0, [(n, "empty-answer") for n in (1, 2, 3)], []),
    "20_no_assistant": (0, [(1, "no-answer")], []),
    "21_ends_with_user": (0, [(1, "ends-with-user")], []),
    "22_consecutive_roles": (1, [], [(1, "merged"), (1, "merged")]),
    "23_system_not_first": (0, [(1, "system-order"), (2, "system-order")], []),
    "24_non_string_content": (0, [(n, "content-type") for n in (1, 2, 3, 4)], []),
    "25_tool_calls": (1, [], []),
    "26_missing_messages": (0, [(n, "shape") for n in range(1, 9)], []),
    "27_extra_keys": (1, [], [(1, "extra-keys")]),
    "28_duplicates": (41, [], []),
    "29_conflicting_labels": (2, [], []),
    "30_label_variants": (8, [], []),
    "31_one_class_and_singletons": (64, [], []),
    "32_leak_train": (6, [], []),
    "32_leak_test": (2, [], []),
    "33_prompt_injection": (2, [], []),
    "34_secrets_pii": (8, [], []),
    "35_unicode": (5, [(6, "surrogate")], []),
    "36_deep_nesting": (0, [(1, "nesting")], []),
    "37_huge_int": (0, [(1, "number")], []),
    "38_not_jsonl": (0, [(1, "csv")], []),
    "39_gzip": (6, [], [(1, "gzip")]),
}


def case(name: str) -> Read:
    return read_all(BAD_INPUTS / f"{name}.jsonl")


@pytest.mark.parametrize("name", CASES)
def test_a_shared_file_gives_its_examples_faults_and_notes(name: str) -> None:
    found = case(name)
    assert (len(found.examples), found.placed, found.noted) == CASES[name]


@pytest.mark.parametrize("name", CASES)
def test_all_examples_of_a_shared_file_can_be_written(name: str, tmp_path: Path) -> None:
    found = case(name)
    write_chat(tmp_path / "kept.jsonl", found.examples, Columns())
    (tmp_path / "refused.jsonl").write_text("".join(map(quarantine_line, found.faults)), "utf-8")
    refused = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [row["reason"] for row in refused] == [fault.reason for fault in found.faults]
    if found.examples:
        again = read_all(tmp_path / "kept.jsonl", "chat")
        assert not again.faults
        assert [e.messages for e in again.examples] == [e.messages for e in found.examples]


def test_every_shared_file_has_its_case() -> None:
    assert {path.stem for path in BAD_INPUTS.glob("*.jsonl")} == set(CASES)


@pytest.mark.parametrize("name", ["01_bom", "02_crlf", "03_cr_only", "10_no_final_newline", "13_json_array", "39_gzip"])
def test_another_wrapping_of_the_control_gives_the_same_messages(name: str) -> None:
    assert [e.messages for e in case(name).examples] == [e.messages for e in case("00_good").examples]


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("04_utf16", 1, "UTF-16"),
        ("05_invalid_utf8", 2, "byte 0xff"),
        ("06_latin1", 1, "iconv -f WINDOWS-1252"),
        ("14_pretty_printed", 1, "lines 1 to 32"),
        ("15_concatenated", 1, "more than one object"),
        ("16_single_quotes", 1, "json.dumps"),
        ("18_wrong_roles", 1, "'human'; write 'user' instead"),
        ("18_wrong_roles", 2, "'User'; write 'user' instead"),
        ("18_wrong_roles", 3, "has no role"),
        ("18_wrong_roles", 4, "is null"),
        ("24_non_string_content", 1, "is an object"),
        ("24_non_string_content", 2, "is a number"),
        ("24_non_string_content", 3, "is a text"),
        ("24_non_string_content", 4, "'image_url'"),
        ("26_missing_messages", 1, "form 'prompt'"),
        ("26_missing_messages", 2, "form 'labelled'"),
        ("35_unicode", 6, "U+D800"),
        ("38_not_jsonl", 1, "rename the file to .csv"),
    ],
)
def test_a_fault_has_a_clear_reason(name: str, line: int, expected: str) -> None:
    (reason,) = [fault.reason for fault in case(name).faults if fault.where.endswith(f":{line}")]
    assert expected in reason


def test_the_faults_of_other_schemas_are_all_distinct() -> None:
    reasons = [fault.reason for fault in case("26_missing_messages").faults]
    assert len(set(reasons)) == len(reasons)


def test_blank_lines_leave_the_line_numbers_true() -> None:
    assert [e.meta.source for e in case("11_blank_lines").examples] == [
        "11_blank_lines.jsonl:2",
        "11_blank_lines.jsonl:5",
    ]


def test_windows_line_ends_leave_no_trace() -> None:
    assert not any("\r" in message.content for e in case("02_crlf").examples for message in e.messages)


def test_merged_turns_keep_all_their_text() -> None:
    (example,) = case("22_consecutive_roles").examples
    assert [(m.role, m.content) for m in example.messages] == [("user", "a\n\nb"), ("assistant", "c\n\nd")]


def test_tool_calls_are_kept() -> None:
    (example,) = case("25_tool_calls").examples
    assert example.messages[1].tool_calls == [
        {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"id":1}'}}
    ]
    assert (example.messages[2].role, example.messages[2].tool_call_id) == ("tool", "c1")
    assert (example.request, example.answer) == ("where is my order", "It was shipped.")


def test_other_keys_and_the_weight_are_kept() -> None:
    (example,) = case("27_extra_keys").examples
    assert (example.weight, example.meta.extra) == (0.5, {"id": 1, "metadata": {"a": 1}})


def test_template_tokens_stay_text() -> None:
    assert case("33_prompt_injection").examples[1].request.startswith("</s><|im_end|>\n<|im_start|>assistant")


def test_a_unicode_line_separator_is_text() -> None:
    assert case("35_unicode").examples[4].request == "x" * 10 + "\u2028line sep"
