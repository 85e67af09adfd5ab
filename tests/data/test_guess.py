"""The spec that is guessed from a data file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.data.guess_files import TEXTS, guessed, labelled, many, table, write
from tunewright.config import load_spec
from tunewright.core.errors import UserError
from tunewright.data.guess.paid import PaidToday
from tunewright.data.guess.spec import guess_spec
from tunewright.data.readers import Columns, read
from tunewright.tasks import Example


def test_the_guess_is_a_spec_that_loads(tmp_path: Path) -> None:
    spec = guessed(write(tmp_path / "tickets.jsonl", labelled("refund", "billing")))
    assert spec.name == "tickets"
    assert list(spec.task.labels) == ["billing", "refund"]
    assert (spec.data.text, spec.data.label) == ("text", "label")
    assert spec.path(spec.data.train) == tmp_path / "tickets.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "yes",
        "on",
        "off",
        "true",
        "1",
        "01",
        "1.0",
        "1e3",
        "0x1f",
        "1_000",
        "null",
        "~",
        "it's",
        "a: b",
        "a #b",
        "- a",
        "{labels}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "<<",
        "=",
        "? a",
        " a",
        "a ",
        'say "a"',
        "é",
        "2024-01-01",
        "12:30",
        "{{ a }}",
        "{% a %}",
        "a\\b",
        "😀",
        "n/a",
    ],
)
def test_a_label_that_yaml_would_misread_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    assert set(guessed(write(tmp_path / "d.jsonl", labelled(name, "other"))).task.labels) == {name, "other"}


def test_a_label_that_ends_a_yaml_document_comes_back_as_it_was(tmp_path: Path) -> None:
    assert set(guessed(write(tmp_path / "d.jsonl", labelled("...", "other"))).task.labels) == {"...", "other"}


@pytest.mark.parametrize(
    "name", ["two\nlines", "tab\there", "a\x92b", "\x7f", "a\x85b", "a\u2028b", "a\u2029b", "\ufeffa", "a\xa0b"]
)
def test_a_label_with_a_line_break_or_a_control_character_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    assert set(guessed(write(tmp_path / "d.jsonl", labelled(name, "other"))).task.labels) == {name, "other"}


def chat(text: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}


def test_chat_rows_with_repeated_answers_are_to_be_classified(tmp_path: Path) -> None:
    rows = [chat(text, ("refund", "billing")[n % 2]) for n, text in enumerate(TEXTS)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert list(spec.task.labels) == ["billing", "refund"]


def test_of_conversations_the_model_reads_as_many_turns_as_nearly_all_have(tmp_path: Path) -> None:
    asked, said = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "What is it?"}
    turns = [[asked, said] * (40 if n == 0 else 1 if n < 25 else 0) for n in range(40)]
    last = [{"role": "user", "content": "Money back"}, {"role": "assistant", "content": "refund"}]
    other = [{"role": "user", "content": "It is broken"}, {"role": "assistant", "content": "billing"}]
    rows: list[dict[str, object]] = [{"messages": [*before, *(last, other)[n % 2]]} for n, before in enumerate(turns)]
    assert guessed(write(tmp_path / "d.jsonl", rows)).task.earlier_turns == 2


def test_chat_rows_with_free_answers_are_to_be_generated(tmp_path: Path) -> None:
    spec = guessed(write(tmp_path / "d.jsonl", [chat(text, f"Thank you. {text}") for text in TEXTS]))
    assert spec.task.kind == "generate"
    assert spec.goal.accuracy == 0.5


def test_chat_rows_with_records_are_to_be_extracted(tmp_path: Path) -> None:
    rows = [chat(text, json.dumps({"place": n, "what": text})) for n, text in enumerate(TEXTS)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert spec.task.kind == "extract"
    assert spec.task.record["properties"] == {"place": {"type": "integer"}, "what": {"type": "string"}}


@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_of_objects_holds_records(as_text: bool, tmp_path: Path) -> None:
    records = [{"who": f"name {n}", "when": f"2024-01-{n + 1:02}"} for n in range(8)]
    rows = [
        {"note": text, "country": "de" if n % 2 else "fr", "entities": json.dumps(record) if as_text else record}
        for n, (text, record) in enumerate(zip(TEXTS, records, strict=True))
    ]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert spec.task.kind == "extract"
    assert (spec.data.text, spec.data.label) == ("note", "entities")
    assert spec.task.record["properties"]["when"] == {"type": "string", "format": "date"}


@pytest.mark.parametrize(("name", "kind"), [("tickets", "classify"), ("invoices", "extract"), ("replies", "generate")])
def test_the_kind_of_each_shipped_example_is_guessed(name: str, kind: str, tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "examples" / name / "data" / "train.jsonl"
    spec = guessed(write(tmp_path / "train.jsonl", [json.loads(line) for line in source.open(encoding="utf-8")]))
    assert spec.task.kind == kind
    begins = {"classify": "linear", "extract": "all-minilm", "generate": "smollm2-135m"}
    assert spec.model == begins[kind]


def test_numbers_as_labels_become_text(tmp_path: Path) -> None:
    assert set(guessed(write(tmp_path / "d.jsonl", labelled(1, 2))).task.labels) == {"1", "2"}


@pytest.mark.parametrize("name", ["label", "no", "a: b", "Kategorie"])
def test_any_column_name_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    assert guessed(write(tmp_path / "d.jsonl", labelled("a", "b", label=name))).data.label == name


@pytest.mark.parametrize(
    ("stem", "name"), [("My Tickets (1)", "my-tickets-1"), ("ÄÖ", "job"), ("__x__", "x"), ("a" * 90, "a" * 60)]
)
def test_the_name_comes_from_the_file(stem: str, name: str, tmp_path: Path) -> None:
    assert guessed(write(tmp_path / f"{stem}.jsonl", labelled("a", "b"))).name == name


@pytest.mark.parametrize("stem", ["2024", "2024-01-01", "null", "true", "1e3"])
def test_a_file_name_that_yaml_would_misread_still_gives_a_spec_that_loads(stem: str, tmp_path: Path) -> None:
    assert guessed(write(tmp_path / f"{stem}.jsonl", labelled("a", "b"))).name == stem


def test_the_data_path_is_relative_to_the_spec(tmp_path: Path) -> None:
    path = write(tmp_path / "raw" / "it's here.jsonl", labelled("a", "b"))
    (tmp_path / "tunewright.yaml").write_text(guess_spec(path, tmp_path).text, "utf-8")
    assert load_spec(tmp_path).data.train == Path("raw/it's here.jsonl")


def test_csv_files_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "".join(f"{t},{'ab'[n % 2]}\n" for n, t in enumerate(TEXTS)))
    assert guessed(path).task.labels == {"a": "", "b": ""}


def calling(
    text: str, call: dict[str, object] | None, tools: list[dict[str, object]] | None = None
) -> dict[str, object]:
    answer: dict[str, object] = {"role": "assistant", "content": None if call else "Good day!"}
    if call:
        answer["tool_calls"] = [{"id": "1", "type": "function", "function": call}]
    return {"messages": [{"role": "user", "content": text}, answer], **({"tools": tools} if tools else {})}


def test_rows_that_call_tools_make_a_job_of_those_tools(tmp_path: Path) -> None:
    tools = [
        {"type": "function", "function": {"name": name, "description": 'Says: "é"', "parameters": {"type": "object"}}}
        for name in ("now", "never_called")
    ]
    seen = {"name": "find", "arguments": json.dumps({"what": "a thing"})}
    rows = [
        calling(text, ({"name": "now", "arguments": "{}"}, seen, None)[n % 3], tools) for n, text in enumerate(TEXTS)
    ]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert spec.task.kind == "tools"
    assert [tool["function"]["name"] for tool in spec.task.tools] == ["now", "never_called", "find"]
    assert spec.task.tools[0]["function"]["description"] == 'Says: "é"'
    assert spec.task.tools[2]["function"]["parameters"] == {
        "type": "object",
        "properties": {"what": {"type": "string"}},
        "required": ["what"],
    }
    assert spec.model == "smollm2-135m"


def test_a_few_calls_make_no_job_of_tools(tmp_path: Path) -> None:
    rows = [chat(f"{text} {n}", ("refund", "billing")[n % 2]) for n in range(3) for text in TEXTS]
    assert guessed(write(tmp_path / "d.jsonl", [*rows, calling("now?", {"name": "now"})])).task.kind != "tools"


@pytest.mark.parametrize("blank", [None, "", "  "])
@pytest.mark.parametrize("labels", [["a", "b", "c"], ["a, b", "a", "c"], [1, 2]])
def test_a_row_without_a_label_changes_nothing_but_is_named(
    labels: list[object], blank: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = many(label=labels, priority=["high", "low"])
    rows[7]["label"] = blank
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert (spec.task.kind, spec.data.label) == ("classify", "label")
    assert list(spec.task.labels) == sorted(map(str, labels))
    assert "1 of 40 rows has no answer (line 8)." in capsys.readouterr().err


def test_a_csv_row_without_a_label_changes_nothing_but_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"message {n},{'abc'[n % 3] if n != 50 else ''},{'high' if n % 2 else 'low'}" for n in range(100)]
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["text,label,priority", *lines]) + "\n", "utf-8")
    spec = guessed(path)
    assert (spec.task.kind, spec.data.label, list(spec.task.labels)) == ("classify", "label", ["a", "b", "c"])
    assert "1 of 100 rows has no answer (line 52)." in capsys.readouterr().err


def test_a_row_without_a_record_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = many(entities=[{"who": "a"}, {"who": "b"}], country=["de", "fr"])
    rows[3]["entities"] = None
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert (spec.task.kind, spec.data.label) == ("extract", "entities")
    assert "1 of 40 rows has no answer (line 4)." in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["{}", "I can't read this."])
def test_a_stray_answer_among_records_changes_nothing(answer: str, tmp_path: Path) -> None:
    rows = [chat(f"message {n}", json.dumps({"place": n}) if n != 5 else answer) for n in range(40)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert spec.task.kind == "extract"
    assert list(spec.task.record["properties"]) == ["place"]


def test_a_reply_that_is_blank_changes_nothing(tmp_path: Path) -> None:
    rows = [
        {"text": f"message {n}", "reply": f"answer {n}" if n != 5 else "", "country": "df"[n % 2]} for n in range(40)
    ]
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.label == "reply"


@pytest.mark.parametrize("blank", [None, ""])
def test_a_row_without_a_list_changes_nothing(blank: object, tmp_path: Path) -> None:
    rows = many(label=[["a"], ["b", "a"], ["b"]], priority=["high", "low"])
    rows[3]["label"] = blank
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert (spec.task.kind, spec.data.label, spec.data.separator) == ("multi_label", "label", None)


def test_data_of_which_no_row_can_be_read_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"messages": [{"role": "user", "content": text}]} for text in TEXTS]
    with pytest.raises(UserError, match=r"d\.jsonl:1: No example can be made of these rows\. .*assistant"):
        guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path)


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [chat(f"message {n}", ("refund", "billing")[n % 2]) for n in range(8)]
    rows.insert(2, {"messages": [{"role": "user", "content": "Hello?"}]})
    assert guessed(write(tmp_path / "d.jsonl", rows)).task.kind == "classify"
    assert "1 row can't be read, and did not count for the spec. The first: " in capsys.readouterr().err


def test_blank_texts_among_sets_of_labels_and_rows_without_any_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = many(label=["a;b", "b", "a", ""])
    rows[0]["label"] = None
    assert guessed(write(tmp_path / "d.jsonl", rows)).data.separator == ";"
    told = capsys.readouterr().err
    assert "10 of 40 rows have no answer (line 4, line 8, line 12 and 7 more). Such a row teaches" in told
    assert "1 of 40 rows has no answer (line 1). Add the answer or delete the row" in told


def test_rows_inside_one_object_are_told_so(tmp_path: Path) -> None:
    file = tmp_path / "my tickets.json"
    rows = [{"text": f"my parcel {n} is late", "label": "ab"[n % 2]} for n in range(30)]
    file.write_text(json.dumps({"exported": "today", "my rows": rows}), "utf-8")
    with pytest.raises(UserError, match="It has 30 objects under 'my rows'") as caught:
        guess_spec(file, tmp_path)
    typed = str(caught.value.fix).partition("type: ")[2].partition(" > ")[0]
    assert shlex.split(typed) == ["jq", "-c", '.["my rows"][]', str(file)]


def test_true_and_false_are_labels(tmp_path: Path) -> None:
    file = tmp_path / "spam.jsonl"
    rows = [{"text": f"win {n} dollars", "is_spam": n % 3 == 0} for n in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.label_column, found.rows) == ("classify", "is_spam", 30)
    (tmp_path / "tunewright.yaml").write_text(found.text, "utf-8")
    spec = load_spec(tmp_path)
    assert list(spec.task.labels) == ["False", "True"]
    answers = [each.answer for each in read(file, columns=Columns("text", "is_spam")) if isinstance(each, Example)]
    assert answers == [str(n % 3 == 0) for n in range(30)]


def test_true_and_false_beside_a_record_are_no_labels(tmp_path: Path) -> None:
    file = tmp_path / "invoices.jsonl"
    rows = [{"text": f"invoice {n}", "found": {"number": n}, "checked": n % 2 == 0} for n in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert (guess_spec(file, tmp_path).kind, guess_spec(file, tmp_path).label_column) == ("extract", "found")


def test_spellings_of_one_label_are_one_label_of_the_spec(tmp_path: Path) -> None:
    names = ("Billing", "Billing", " Billing", "billing", "Login", "Login")
    file = table(tmp_path / "case.csv", "text,label", lambda n: f"a message {n},{names[n % 6]}")
    found = guess_spec(file, tmp_path, file="my spec.yaml")
    assert found.what.startswith("2 labels")
    assert "label" in found.text and "Billing: " in found.text and "billing: " not in found.text
    assert {"Billing", "billing"} <= set(found.alike)
    for other in (["a", "A", "b", "B"], ["new", "news", "sale", "sales"], [".", ",", "!", "?"]):
        rows = table(tmp_path / "other.csv", "text\tlabel", lambda n, other=other: f"a message {n}\t{other[n % 4]}")
        found_other = guess_spec(rows, tmp_path)
        assert (found_other.what.split()[0], found_other.alike) == ("4", ())
    assert "To run it: tunewright run 'my spec.yaml'" in found.text


def test_decimals_of_whole_numbers_are_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "stars.jsonl", [{"body": t, "stars": float(n % 3)} for n, t in enumerate(TEXTS)])
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.what.split()[0]) == ("classify", "3")
    answers = [each.answer for each in read(file, columns=Columns("body", "stars")) if isinstance(each, Example)]
    assert answers == [str(n % 3) for n in range(8)]


def test_a_log_of_several_jobs_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(system: str, text: str, answer: str) -> dict[str, object]:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        return {"request": {"model": "m", "messages": messages}, "response": {"choices": [choice]}}

    one = [call("Sort it.", text, "ab"[n % 2]) for n, text in enumerate(TEXTS)]
    guess_spec(write(tmp_path / "one.jsonl", one), tmp_path)
    assert "several jobs" not in capsys.readouterr().err
    two = [*one, *(call("Sum it up.", text, f"short {text}") for text in TEXTS)]
    guess_spec(write(tmp_path / "two.jsonl", two), tmp_path)
    assert "2 different system prompts, so they may be several jobs" in capsys.readouterr().err
    dated = [call(f"Today is day {n}. Sort it.", text, "ab"[n % 2]) for n, text in enumerate(TEXTS * 4)]
    guess_spec(write(tmp_path / "dated.jsonl", dated), tmp_path)
    assert "several jobs" not in capsys.readouterr().err


def test_the_fields_of_a_record_may_hold_control_characters(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": text, "entities": {"a\x85\u2028b": n}} for n, text in enumerate(TEXTS)]
    spec = guessed(write(tmp_path / "d.jsonl", rows))
    assert spec.task.record["properties"] == {"a\x85\u2028b": {"type": "integer"}}


def test_the_prompt_of_the_api_may_hold_any_character(tmp_path: Path) -> None:
    paid = PaidToday("gpt-4o", prompt="Sort it 😀\x85\n", requests_per_month=10)
    file = write(tmp_path / "d.jsonl", labelled("a", "b"))
    (tmp_path / "tunewright.yaml").write_text(guess_spec(file, tmp_path, paid).text, "utf-8")
    assert load_spec(tmp_path).api.prompt == "Sort it 😀\x85\n"


@pytest.mark.parametrize("header", ["ticket,request,response,category", "ticket,prompt,completion,category"])
def test_other_columns_of_pairs_that_repeat_values_are_named(header: str, tmp_path: Path) -> None:
    file = table(
        tmp_path / "d.csv", header, lambda n: f"T{n},where is parcel {n},It is on its way to {n},{'ab'[n % 2]}"
    )
    found = guess_spec(file, tmp_path)
    assert (found.kind, found.text_column, found.others) == ("generate", "", ("category (2)",))


def test_what_a_log_knows_of_its_calls_is_no_other_column(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"request": text, "response": f"Yes, {text}", "model": "mn"[n % 2], "status": (200, 201)[n % 2]}
        for n, text in enumerate(TEXTS)
    ]
    assert guess_spec(write(tmp_path / "d.jsonl", rows), tmp_path).others == ()


@pytest.mark.parametrize("form", ["rows", "records", "csv"])
def test_azures_diagnostic_logs_are_refused(form: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "time": f"2026-10-31T10:00:{n:02}Z",
            "resourceId": "/SUBSCRIPTIONS/1",
            "category": "RequestResponse",
            "operationName": ("ChatCompletions_Create", "Embeddings_Create")[n % 2],
            "properties": json.dumps({"modelName": "gpt-4o", "requestLength": n}),
        }
        for n in range(30)
    ]
    file = write(tmp_path / "PT1H.json", [{"records": rows}] if form == "records" else rows)
    if form == "csv":
        file = tmp_path / "query.csv"
        file.write_text("TimeGenerated [UTC],ResourceId,Category,OperationName\n" + "t,/s/1,RequestResponse,x\n" * 9)
    with pytest.raises(
        UserError, match=r"Azure's diagnostic logs.*keep no texts.*gateway.*stored completions"
    ) as caught:
        guess_spec(file, tmp_path)
    assert str(caught.value.where).startswith(str(file))


def test_nan_in_a_table_is_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path / "d.csv", "text,label", lambda n: f"a message {n},{('nan', 'a', 'b', 'a')[n % 4]}", 80)
    assert guess_spec(file, tmp_path).what == "2 labels"
    assert "20 of 80 rows have no answer (line 2," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["a.csv"], "a.csv"),
        (["a.csv", "settings.json"], "a.csv"),
        (["a.csv", "b.csv"], "*.csv"),
        (["raw/a.csv", "raw/b.csv"], "raw"),
        (["raw/2026/a.csv"], "raw/2026/a.csv"),
        (["raw/a.csv", "b.csv"], "."),
    ],
)
def test_of_data_in_the_specs_own_folder_the_files_are_named(
    files: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parcels"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            (folder / name).write_text('{"theme": "dark"}')
        else:
            table(folder / name, "text,label", lambda n: f"message {n} about it,{'ab'[n % 2]}")
    monkeypatch.chdir(folder)
    (folder / "tunewright.yaml").write_text(guess_spec(Path(), Path().resolve()).text, "utf-8")
    spec = load_spec(folder)
    assert str(spec.data.train) == named
    if len(files) > 1 or "/" not in files[0]:
        assert spec.name == "parcels"
