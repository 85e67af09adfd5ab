"""Which columns of a data file are taken for the answers, the texts and the documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.guess_files import TEAMS, TEXTS, guessed, labelled, many, table, write
from tunewright.config import load_spec
from tunewright.core.errors import UserError
from tunewright.data.guess.spec import guess_spec
from tunewright.data.job import columns_in
from tunewright.data.readers import Columns, Fault, read
from tunewright.tasks import Example


def test_a_usual_label_name_wins_over_records(tmp_path: Path) -> None:
    rows = [{**row, "entities": {"a": 1}} for row in labelled("x", "y")]
    assert guessed(write(tmp_path / "d.jsonl", rows)).task.kind == "classify"


def test_a_column_named_reply_holds_answers(tmp_path: Path) -> None:
    rows = [{"text": text, "reply": text[::-1], "country": "de" if n % 2 else "fr"} for n, text in enumerate(TEXTS)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert (spec.task.kind, spec.data.label) == ("generate", "reply")


def test_a_usual_label_name_wins_over_another_column_that_repeats(tmp_path: Path) -> None:
    rows = [
        {**row, "country": "de" if n % 2 else "fr"} for n, row in enumerate(labelled("a", "b", "c", label="intent"))
    ]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).label_column == "intent"


def test_a_usual_text_name_wins_over_a_somewhat_longer_column(tmp_path: Path) -> None:
    rows = [{**row, "url": "https://example.org/" + "x" * 50 + str(n)} for n, row in enumerate(labelled("a", "b"))]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).text_column == "text"


def test_the_text_is_the_longest_column_where_no_name_helps(tmp_path: Path) -> None:
    rows = [{"ref": f"r{n}", **row} for n, row in enumerate(labelled("a", "b", text="Nachricht"))]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).text_column == "Nachricht"


@pytest.mark.parametrize(
    "rows", [[{"text": t} for t in TEXTS], labelled("same"), labelled("a", ""), labelled("a", None)]
)
def test_data_without_a_label_column_is_refused_with_its_columns(rows: list[dict[str, object]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No column looks like labels.*The columns are: text.*tunewright label"):
        guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)


def test_data_without_a_text_column_is_refused(tmp_path: Path) -> None:
    rows = [{"label": "ab"[n % 2], "price": n / 2} for n in range(8)]
    with pytest.raises(UserError, match="No column looks like text"):
        guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)


def test_a_column_of_paths_is_recognised_by_existing_documents(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("hello")
    rows = [{"note": "a longer text than any path is", "file": f"{n}.txt", "label": "ab"[n % 2]} for n in range(8)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert (spec.data.document, spec.data.label) == ("file", "label")
    (tmp_path / "3.txt").unlink()
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.document is None
    absent = [row | {"file": "x" * 400 + ".txt"} for row in rows]
    assert guessed(write(tmp_path / "d.jsonl", absent)).data.text == "note"


def test_a_usual_name_with_many_blanks_wins_over_a_full_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "d.jsonl", many(label=["a", "b", None, "a", "b"], priority=["high", "low"]))
    assert guessed(path).data.label == "label"
    assert "8 of 40 rows have no answer (line 3, line 8, line 13 and 5 more)." in capsys.readouterr().err


def test_a_column_that_is_mostly_blank_holds_no_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = many(escalated=["a", "b", None, None, None], label=["a", "b", *[None] * 3], country=["de", "fr"])
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.label == "country"
    assert "'label' is empty in 24 of 40 rows, so 'country' was taken" in capsys.readouterr().err


def test_a_key_that_the_first_row_lacks_is_a_column(tmp_path: Path) -> None:
    rows = many(label=["a", "b"], priority=["high", "low"])
    del rows[0]["label"]
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.label == "label"


def test_a_row_without_a_document_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    rows = many(file=["a.txt"], label=["a", "b"])
    rows[3]["file"] = None
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.document == "file"


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_a_table_without_names_is_told_so(suffix: str, separator: str, tmp_path: Path) -> None:
    file = tmp_path / f"tickets.{suffix}"
    rows = [f"my own parcel {n} is late{separator}{'billing' if n % 3 else 'delivery'}" for n in range(30)]
    file.write_text("\n".join(rows), "utf-8")
    with pytest.raises(UserError, match=rf"tickets\.{suffix}:1: The first line looks like a row.*'delivery' is there"):
        guess_spec(file, tmp_path)
    file.write_text("\n".join([f"text{separator}queue", *rows]), "utf-8")
    assert guess_spec(file, tmp_path).rows == 30


MARKED: dict[str, list[object]] = {
    "spaCy": [{"start": 0, "end": 4, "label": "PERSON"}, {"start": 10, "end": 11, "label": "SUM"}],
    "Presidio": [{"entity_type": "PERSON", "start": 0, "end": 4}, {"entity_type": "SUM", "start": 10, "end": 11}],
    "doccano": [[0, 4, "PERSON"], [10, 11, "SUM"]],
    "Label Studio": [
        {"start": 10, "end": 11, "text": "5", "labels": ["SUM"]},
        {"start": 0, "end": 4, "text": "Anna", "labels": ["PERSON"]},
    ],
}


@pytest.mark.parametrize("tool", MARKED)
def test_values_marked_in_the_text_are_records(tool: str, tmp_path: Path) -> None:
    rows = [{"text": "Anna paid 5 euros", "spans": MARKED[tool], "note": "x"} for _ in range(20)]
    rows.append({"text": "nobody paid", "spans": [], "note": "x"})
    file = write(tmp_path / "marked.jsonl", rows)
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.label_column, found.text_column) == ("extract", "spans", "text")
    (tmp_path / "tunewright.yaml").write_text(found.text, "utf-8")
    spec = load_spec(tmp_path)
    values = {"type": "array", "items": {"type": "string", "x-literal": True}}
    assert spec.task.record == {"type": "object", "properties": {"PERSON": values, "SUM": values}}
    records = [json.loads(each.answer) for each in read(file, columns=columns_in(spec)) if isinstance(each, Example)]
    assert records == [{"PERSON": ["Anna"], "SUM": ["5"]}] * 20 + [{}]


def test_a_mark_outside_its_text_is_a_fault(tmp_path: Path) -> None:
    rows = [{"text": "Anna paid", "label": [[0, 4, "PERSON"]]}, {"text": "Anna", "label": [[0, 9, "PERSON"]]}]
    first, second = read(write(tmp_path / "marked.jsonl", rows), columns=Columns(is_record=True))
    assert isinstance(first, Example)
    assert isinstance(second, Fault)
    assert "The PERSON from 0 to 9 is not within the text, which has 4 characters." in second.reason


def test_a_value_that_is_marked_twice_is_listed_once(tmp_path: Path) -> None:
    rows = [{"text": "Anna and Anna", "label": [[9, 13, "P"], [0, 4, "P"]]}]
    file = write(tmp_path / "marked.jsonl", rows)
    (row,) = read(file, columns=Columns(is_record=True))
    assert isinstance(row, Example)
    assert json.loads(row.answer) == {"P": ["Anna"]}
    (other,) = read(file)
    assert isinstance(other, Example)
    assert json.loads(other.answer) == rows[0]["label"], "an answer of another kind stays as it is"


@pytest.mark.parametrize("names", ["message,spam", "text,urgent", "title,x"])
def test_a_column_may_be_named_as_one_of_its_labels(names: str, tmp_path: Path) -> None:
    label = names.rpartition(",")[2]
    rows = [f"my own parcel {n} is late,{label if n % 2 else 'other'}" for n in range(30)]
    file = tmp_path / "tickets.csv"
    file.write_text("\n".join([names, *rows]), "utf-8")
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.label_column) == ("classify", label)


@pytest.mark.parametrize(
    ("more", "kind", "label"),
    [
        ({"label": "ab"}, "classify", "label"),
        ({"mood": "ab"}, "extract", "spans"),
        ({"reply": [f"Dear Anna {n}" for n in range(30)]}, "generate", "reply"),
    ],
)
def test_marks_beside_another_answer(more: dict[str, Any], kind: str, label: str, tmp_path: Path) -> None:
    ((name, values),) = more.items()
    rows = [
        {
            "text": f"Anna paid {n} euros to us",
            "spans": [[0, 4, "PERSON"]],
            name: values[n % 2] + "!" * n * (name == "reply"),
        }
        for n in range(30)
    ]
    found = guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)
    assert (found.kind, found.label_column) == (kind, label)


@pytest.mark.parametrize(
    "answer", [[{"start": 9, "end": 10, "type": "meeting"}], [[2, 10, "apple"]], [[1, 1, "a"]], [[3, 4, 5]]]
)
def test_other_lists_of_numbers_and_names_are_no_marks(answer: list[Any], tmp_path: Path) -> None:
    rows = [{"text": f"my meeting number {n} tomorrow please", "answer": answer} for n in range(30)]
    with pytest.raises(UserError, match="No column looks like"):
        guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)


def test_the_title_in_an_issue_trackers_table_is_no_answer(tmp_path: Path) -> None:
    header = "Summary,Issue key,Description,Component"
    file = table(
        tmp_path / "jira.csv", header, lambda n: f"title {n},SUP-{n},the longer story of issue {n},{TEAMS[n % 3]}"
    )
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.text_column, found.label_column) == ("classify", "Description", "Component")
    texts = table(tmp_path / "texts.csv", "id,text,summary", lambda n: f"{n},the longer story of issue {n},title {n}")
    assert guess_spec(texts, tmp_path).label_column == "summary"


def test_a_help_desks_columns_of_work_are_no_answers_and_are_named(tmp_path: Path) -> None:
    header = "Ticket ID,Subject,Description,Status,Priority,Group"
    states = ("open", "solved")
    file = table(
        tmp_path / "zendesk.csv",
        header,
        lambda n: (
            f"{n},title {n},the longer story of ticket {n},{states[n % 2]},{'low' if n % 5 else 'high'},{TEAMS[n % 3]}"
        ),
    )
    found = guess_spec(file, tmp_path)
    assert (found.label_column, found.others) == ("Group", ("Status (2)", "Priority (2)"))
    assert guess_spec(write(tmp_path / "d.jsonl", labelled("a", "b")), tmp_path).others == ()


@pytest.mark.parametrize("name", ["class", "Component/s", "Intents", "assigned_group"])
def test_a_usual_name_of_labels_comes_before_other_columns(name: str, tmp_path: Path) -> None:
    rows = [{"text": text, "kind": "xy"[n % 2], name: "abc"[n % 3]} for n, text in enumerate(TEXTS * 2)]
    found = guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)
    assert (found.label_column, found.others) == (name, ("kind (2)",))


@pytest.mark.parametrize(
    ("columns", "kind", "label"),
    [
        ({"intent": "abc", "tags": [["x"], ["x", "y"], ["y"]]}, "classify", "intent"),
        ({"label": "abcdef", "group": "ct"}, "classify", "label"),
        ({"category": "abcdef", "team": "xy"}, "classify", "category"),
        ({"label": [[[0, 3, "WORD"]], [[4, 10, "WORD"]]], "annotator": [1, 2]}, "extract", "label"),
        (
            {"priority": "lh", "metadata": [{"channel": "web", "n": 1}, {"channel": "web", "n": 2}]},
            "classify",
            "priority",
        ),
        ({"summary": [f"short {n}" for n in range(30)], "split": "ab"}, "generate", "summary"),
    ],
)
def test_the_answer_among_several_columns(columns: dict[str, Any], kind: str, label: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": n, "text": f"the longer story of request {n}"}
        | {name: values[n % len(values)] for name, values in columns.items()}
        for n in range(30)
    ]
    found = guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)
    assert (found.kind, found.label_column) == (kind, label)


def test_marks_in_a_script_without_blanks(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": f"张三在北京付了{n}元", "entities": [{"start": 0, "end": 2, "label": "PER"}]} for n in range(30)
    ]
    found = guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)
    assert (found.kind, found.label_column) == ("extract", "entities")


@pytest.mark.parametrize("first", ["refund 0,delivery", "我的包裹0还没有到,delivery"])
def test_a_first_row_in_the_place_of_names(first: str, tmp_path: Path) -> None:
    file = table(
        tmp_path / "d.csv", first, lambda n: f"{first.partition(',')[0]} {n},{'delivery' if n % 2 else 'money'}"
    )
    with pytest.raises(UserError, match="The first line looks like a row"):
        guess_spec(file, tmp_path)
    named = table(
        tmp_path / "e.csv", "Text of message,urgent", lambda n: f"message {n},{'urgent' if n % 2 else 'later'}"
    )
    assert guess_spec(named, tmp_path).label_column == "urgent"


SERVICENOW = "sys_id,number,short_description,assignment_group,active,contact_type"


@pytest.mark.parametrize("header", [SERVICENOW, "sysId,Number,Short description,Assignment group,Active,Contact type"])
def test_a_service_desks_title_is_the_text_and_its_group_the_answer(header: str, tmp_path: Path) -> None:
    file = table(
        tmp_path / "incident.csv",
        header,
        lambda n: f"{n:032x},INC{n:07},mail {n} fails,{TEAMS[n % 3]} team,{n % 2 == 0},{('email', 'phone')[n % 2]}",
    )
    found = guess_spec(file, tmp_path)
    assert (found.text_column, found.label_column) == tuple(header.split(",")[2:4])


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/tickets/x/y/z/{n:040}",
        "2026-10-31 10:11:12.000000 +00:00 {n:020}",
        "{n:064x}",
    ],
)
def test_a_column_without_words_is_no_text_beside_one_with_words(other: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"a": other.format(n=n), "b": f"late again {n}", "label": "xy"[n % 2]} for n in range(30)
    ]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).text_column == "b"
    alone = [{name: row[name] for name in ("a", "label")} for row in rows]
    assert guess_spec(write(tmp_path / "d.jsonl", alone), tmp_path).text_column == "a"


def test_texts_of_one_word_stay_the_text_if_they_are_named_so(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"query": f"refund{n}", "agent": f"Jane Doe {n % 3}", "label": "xy"[n % 2]} for n in range(30)
    ]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).text_column == "query"


def test_a_usual_name_with_too_many_values_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [
        {"text": f"message {n} about it", "category": f"c{n % 350}", "priority": n % 3} for n in range(800)
    ]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).label_column == "priority"
    assert "'category' has 350 values, more than 300" in capsys.readouterr().err
    for row in rows:
        del row["priority"]
    with pytest.raises(UserError, match=r"No column looks like labels.*'category' has 350 values, more than 300"):
        guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)
    few: list[dict[str, object]] = [{**row, "label": "ab"[n % 2]} for n, row in enumerate(rows[:40])]
    assert guess_spec(write(tmp_path / "d.jsonl", few), tmp_path).label_column == "label"
    assert capsys.readouterr().err == "", "the answer's name is as usual"
    for row in few:
        row["priority"] = row.pop("label")
    guess_spec(write(tmp_path / "d.jsonl", few), tmp_path)
    assert "'category' has 40 values in 40 rows, which hardly repeat" in capsys.readouterr().err


def test_documents_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def row(n: int) -> str:
        return f"invoices\\{n:04}.pdf,{'ab'[n % 2]}"

    file = table(tmp_path / "d.csv", "file,category", row)
    with pytest.raises(UserError, match=r"'file' names documents that are not there.*invoices\\0000\.pdf"):
        guess_spec(file, tmp_path)
    (tmp_path / "invoices").mkdir()
    (tmp_path / "invoices" / "0000.pdf").touch()
    with pytest.raises(UserError, match=r"Write / in place of \\"):
        guess_spec(file, tmp_path)
    noted = table(tmp_path / "e.csv", "file,note,category", lambda n: row(n).replace(",", f",the bill of {n},"))
    assert guess_spec(noted, tmp_path).text_column == "note"
    assert "'file' names documents that are not there" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["data", "data/*.jsonl"])
def test_documents_are_looked_for_beside_the_rows(data: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"file": f"{n}.txt", "label": "ab"[n % 2]} for n in range(8)]
    write(tmp_path / "data" / "d.jsonl", rows)
    for number in range(8):
        (tmp_path / "data" / f"{number}.txt").write_text("hello")
    found = guess_spec(tmp_path / data, tmp_path)
    assert (found.text_column, "document: file" in found.text) == ("file", True)
