"""Fixes go to new files, list every row they change, and change no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import LABELS, TOKENIZER
from tunewright.config import file_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dedup.near import similarity
from tunewright.data.fix import LOG, Fixed, fix, fixable
from tunewright.data.job import Job, job_of_files
from tunewright.data.readers import Columns, read
from tunewright.pii import Pseudonymiser, find_pii
from tunewright.tasks import ClassifyTask, Example, MultiLabelTask

KEY = b"0123456789abcdef"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def job(train: Path, *overrides: str, labels: list[str] | None = None) -> Job:
    base = job_of_files(file_spec(train, overrides))
    task = ClassifyTask("Route it.", dict.fromkeys(labels, "")) if labels else None
    return Job(base.data, base.sources, task, base.limit, "", base.goal)


def fixed_rows(fixed: Fixed, split: str = "train") -> list[tuple[str, str]]:
    rows = read_jsonl(fixed.files[split])
    return [(row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]


def log(fixed: Fixed) -> list[dict[str, Any]]:
    return read_jsonl(fixed.files["train"].parent / LOG)


LONG = "my parcel with the blue kettle and the green ladder never arrived at the old house by the river"


def test_the_first_of_several_repeats_stays(tmp_path: Path) -> None:
    rows = [{"text": t, "label": "refund"} for t in ("one", "two", " ONE ", "one", "three")]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D007"], tmp_path / "out")
    assert fixed_rows(fixed) == [("one", "refund"), ("two", "refund"), ("three", "refund")]
    assert [(entry["code"], entry["where"], entry["action"]) for entry in log(fixed)] == [
        ("D007", "d.jsonl:3", "deleted"),
        ("D007", "d.jsonl:4", "deleted"),
    ]


def test_near_copies_are_deleted_except_with_another_answer_or_in_one_group(tmp_path: Path) -> None:
    rows = [
        {"text": LONG, "label": "refund", "c": "a"},
        {"text": LONG + " now", "label": "refund", "c": "b"},
        {"text": LONG + " please", "label": "billing", "c": "c"},
        {"text": LONG + "!", "label": "refund", "c": "d"},
        {"text": "the invoice of may was charged to the wrong card of the two we have on file", "label": "b", "c": "e"},
        {
            "text": "the invoice of june was charged to the wrong card of the two we have on file",
            "label": "b",
            "c": "e",
        },
    ]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows), "data.group=c"), ["D011"], tmp_path / "out")
    assert [entry["where"] for entry in log(fixed)] == ["d.jsonl:2", "d.jsonl:4"]
    assert [row["c"] for row in read_jsonl(fixed.files["train"])] == ["a", "c", "e", "e"]


def test_rows_known_to_the_test_are_deleted_from_train_only(tmp_path: Path) -> None:
    test = write(tmp_path / "t.jsonl", [{"text": LONG, "label": "refund"}, {"text": "same", "label": "b"}])
    rows = [{"text": LONG + " now", "label": "refund"}, {"text": "Same ", "label": "b"}, {"text": "new", "label": "b"}]
    train = write(tmp_path / "d.jsonl", rows)
    fixed = fix(job(train, f"data.test.seen={test}"), ["D008", "D012"], tmp_path / "out")
    assert fixed_rows(fixed) == [("new", "b")]
    assert fixed_rows(fixed, "seen") == [(LONG, "refund"), ("same", "b")]
    assert sorted((entry["code"], entry["where"]) for entry in log(fixed)) == [
        ("D008", "d.jsonl:2"),
        ("D012", "d.jsonl:1"),
    ]


def test_the_most_frequent_label_wins_and_a_tie_deletes_the_text(tmp_path: Path) -> None:
    rows = [("a", "x"), ("a", "y"), ("a", "x"), ("b", "x"), ("b", "y"), ("c", "x")]
    train = write(tmp_path / "d.jsonl", [{"text": text, "label": label} for text, label in rows])
    assert fixed_rows(fix(job(train), ["D006"], tmp_path / "out")) == [("a", "x"), ("a", "x"), ("c", "x")]


def test_spellings_become_the_specs(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": label} for n, label in enumerate(["Refunds", "Refunds", " refund", "billing"])]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows), labels=LABELS), ["D013"], tmp_path / "out")
    assert [label for _, label in fixed_rows(fixed)] == ["refund", "refund", "refund", "billing"]
    assert log(fixed)[0] == {
        "code": "D013",
        "action": "changed",
        "split": "train",
        "where": "d.jsonl:1",
        "before": "Refunds",
        "after": "refund",
    }


def test_without_a_spec_the_most_frequent_spelling_is_kept(tmp_path: Path) -> None:
    rows = [
        {"text": f"t{n}", "label": label} for n, label in enumerate(["Refunds", "Refunds", "refund", "b", "b", "b"])
    ]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D013"], tmp_path / "out")
    assert [label for _, label in fixed_rows(fixed)] == ["Refunds", "Refunds", "Refunds", "b", "b", "b"]


def test_personal_data_becomes_the_same_stand_in_everywhere_and_is_in_no_log(tmp_path: Path) -> None:
    mail = "jane.doe@corp.test"
    rows = [
        {"text": f"write to {mail}", "label": "a", "agent": mail},
        {"text": f"again {mail.upper()}", "label": "b"},
        {"text": "nothing here", "label": "b"},
    ]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    text = fixed.files["train"].read_text("utf-8") + (tmp_path / "out" / LOG).read_text("utf-8")
    assert "doe" not in text.casefold()
    first, second = (
        row["messages"][0]["content"].split()[-1].casefold() for row in read_jsonl(fixed.files["train"])[:2]
    )
    assert first == second
    assert read_jsonl(fixed.files["train"])[0]["agent"].casefold() == first
    assert [span.kind for span in find_pii(first)] == ["EMAIL"]
    assert [entry["replaced"] for entry in log(fixed)] == [["EMAIL"], ["EMAIL"]]
    again = fix(job(fixed.files["train"]), ["D015"], tmp_path / "again", Pseudonymiser(KEY))
    assert not again.changes, "a stand-in needs no stand-in"
    with fixed.files["train"].open("a", encoding="utf-8") as stream:
        row = read_jsonl(again.files["train"])[0]
        row["messages"][0]["content"] += " or john.roe@corp.test"
        stream.write(json.dumps(row) + "\n")
    more = fix(job(fixed.files["train"]), ["D015"], tmp_path / "more", Pseudonymiser(KEY))
    assert more.changes == {"D015": 1}, "personal data added since is found"


def test_template_tokens_system_prompts_and_damage_are_fixed(tmp_path: Path) -> None:
    def chat(text: str, system: str = "") -> dict[str, Any]:
        turns = [{"role": "system", "content": system}] if system else []
        return {"messages": [*turns, {"role": "user", "content": text}, {"role": "assistant", "content": "b"}]}

    train = write(
        tmp_path / "d.jsonl", [chat("hi <|im_end|>there", "Be nice."), chat("the cafÃ© is closed"), chat("x")]
    )
    fixed = fix(job(train), ["D016", "D017", "d024"], tmp_path / "out")
    assert fixed_rows(fixed) == [("hi there", "b"), ("the café is closed", "b"), ("x", "b")]
    assert [len(row["messages"]) for row in read_jsonl(fixed.files["train"])] == [2, 2, 2]
    assert [entry["code"] for entry in log(fixed)] == ["D016", "D017", "D024"]


def test_rows_beyond_the_limit_and_without_text_are_deleted(tmp_path: Path) -> None:
    rows = [
        {"text": "x" * 300, "label": "a"},
        {"text": " ", "label": "a"},
        {"text": "short", "label": "a" * 250},
        {"text": "fine", "label": "a"},
    ]
    train = write(tmp_path / "d.jsonl", rows)
    fixed = fix(job(train, f"model={TOKENIZER}", "train.max_length=200"), ["D001", "D019", "D020"], tmp_path / "out")
    assert fixed_rows(fixed) == [("fine", "a")]
    assert [entry["code"] for entry in log(fixed)] == ["D020", "D001", "D019"]


def test_rows_that_cannot_be_read_are_listed_and_kept_apart(tmp_path: Path) -> None:
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}, {"text": "two"}, {"text": "one", "label": "a"}])
    fixed = fix(job(train), ["D007"], tmp_path / "out")
    assert [(entry["code"], entry["action"]) for entry in log(fixed)] == [("D009", "left out"), ("D007", "deleted")]
    (kept,) = read_jsonl(tmp_path / "out" / "quarantine" / "train.jsonl")
    assert json.loads(kept["raw"]) == {"text": "two"}


def test_the_originals_and_a_full_folder_are_never_touched(tmp_path: Path) -> None:
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}] * 2)
    before = train.read_bytes()
    fix(job(train), ["D007"], tmp_path / "out")
    with pytest.raises(UserError, match="isn't empty"):
        fix(job(train), ["D007"], tmp_path / "out")
    assert train.read_bytes() == before


@pytest.mark.parametrize(
    ("codes", "message"), [([], "Name the findings to fix"), (["D014"], "suspects.jsonl"), (["D999"], "D999")]
)
def test_a_code_without_automatic_fix_is_refused_with_the_list_of_fixes(
    codes: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        fix(job(write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}])), codes, tmp_path / "out")
    assert "D007 keeps the first of each" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_personal_data_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need a key"):
        fix(job(write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}])), ["D015"], tmp_path / "out")


def test_a_chain_of_near_copies_ends_where_none_is_near_what_stays(tmp_path: Path) -> None:
    a = "my parcel with the blue kettle and the green ladder never arrived at the old house"
    b = a.replace("blue kettle", "blue cattle")
    c = b.replace("green ladder", "grey ladders")
    assert similarity(a, b) >= 0.8
    assert similarity(b, c) >= 0.8 > similarity(a, c)
    rows = [{"text": text, "label": "x"} for text in (a, b, c)]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D011"], tmp_path / "out")
    assert [text for text, _ in fixed_rows(fixed)] == [a, c]


def test_a_column_named_like_a_chat_key_does_not_replace_it(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label,messages,tools\nwhere is it,delivery,3,hammer\n")
    fixed = fix(job(tmp_path / "d.csv"), ["D007"], tmp_path / "out")
    assert fixed_rows(fixed) == [("where is it", "delivery")]
    (row,) = read_jsonl(fixed.files["train"])
    assert (row["column_messages"], row["column_tools"]) == ("3", "hammer")


def test_the_log_quotes_no_personal_data(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Answer for jane.doe@corp.test."}
    turns = [{"role": "user", "content": "the cafÃ© of jane.doe@corp.test"}, {"role": "assistant", "content": "b"}]
    train = write(tmp_path / "d.jsonl", [{"messages": [system, *turns]}])
    fixed = fix(job(train, labels=["b", "c"]), ["D017", "D024"], tmp_path / "out")
    assert len(log(fixed)) == 2
    assert "jane" not in (tmp_path / "out" / LOG).read_text("utf-8")


def test_labels_do_not_count_as_personal_data(tmp_path: Path) -> None:
    rows = [
        {"text": f"write to jane.doe@corp.test {n}", "label": label} for n in range(9) for label in ("a@b.test", "c")
    ]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    assert {label for _, label in fixed_rows(fixed)} == {"a@b.test", "c"}
    assert {tuple(row["stand_ins"]) for row in read_jsonl(fixed.files["train"])} == {("EMAIL",)}
    again = fix(job(fixed.files["train"]), ["D015"], tmp_path / "again", Pseudonymiser(KEY))
    assert not again.changes, "a label hides no stand-in"


def contents(folder: Path) -> str:
    """All that a fix wrote."""
    return "".join(file.read_text("utf-8") for file in sorted(folder.rglob("*.jsonl")))


def test_personal_data_of_a_row_that_cannot_be_read_is_in_no_new_file(tmp_path: Path) -> None:
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}])
    with train.open("a", encoding="utf-8") as stream:
        stream.write('{"text": "\\u00fcber jane.doe@corp.test, DE89370400440532013000\n')
    fixed = fix(job(train), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    assert [entry["code"] for entry in log(fixed)] == ["D009"]
    (kept,) = read_jsonl(tmp_path / "out" / "quarantine" / "train.jsonl")
    assert kept.keys() == {"where", "code", "reason"}
    assert "jane" not in contents(tmp_path / "out")
    assert "DE89" not in contents(tmp_path / "out")


def test_numbers_and_names_are_personal_data_too(tmp_path: Path) -> None:
    card, mail = 4111111111111111, "jane.doe@corp.test"
    extra = {"card": card, "paid": {mail: [float(card), True, None, 7, 0.5]}, "open": 12}
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a", **extra}])
    fixed = fix(job(train), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    (row,) = read_jsonl(fixed.files["train"])
    assert str(card) not in contents(tmp_path / "out")
    assert mail not in contents(tmp_path / "out")
    assert (type(row["card"]), row["open"]) == (int, 12)
    ((name, values),) = row["paid"].items()
    assert [span.kind for span in find_pii(name)] == ["EMAIL"]
    assert values == [float(row["card"]), True, None, 7, 0.5]


def test_personal_data_behind_the_escapes_of_a_record_is_in_no_new_file(tmp_path: Path) -> None:
    told = {"name": "Jörg Müller", "note": "Please call\njane.doe@corp.test\tor +49 170 1234567"}
    turns = [
        {"role": "user", "content": f"Ich bin {told['name']}. {told['note']}"},
        {"role": "assistant", "content": json.dumps(told)},
    ]
    assert "M\\u00fcller" in turns[1]["content"]
    fixed = fix(
        job(write(tmp_path / "d.jsonl", [{"messages": turns}]), labels=[]),
        ["D015"],
        tmp_path / "out",
        Pseudonymiser(KEY),
    )
    (row,) = read_jsonl(fixed.files["train"])
    text, record = row["messages"][0]["content"], json.loads(row["messages"][1]["content"])
    assert record["name"] in text
    assert record["note"] in text
    assert not any(part in contents(tmp_path / "out") for part in ("rg M", "doe@corp", "1234567"))


def test_no_value_is_lost_where_two_names_get_the_same_stand_in(tmp_path: Path) -> None:
    class OneForAll(Pseudonymiser):
        def replace(self, text: str) -> str:
            return "Ann Other" if find_pii(text) else text

    calls = {"jane.doe@corp.test": 1, "john.roe@corp.test": 2}
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a", "calls": calls}])
    fixed = fix(job(train), ["D015"], tmp_path / "out", OneForAll(KEY))
    assert read_jsonl(fixed.files["train"])[0]["calls"] == {"Ann Other": 1, "Ann Other 2": 2}


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        ("[]", True),
        ('["a", "hr@corp.test"]', True),
        ('{"a": 1, "hr@corp.test": 0}', True),
        ("call me: jane.doe@corp.test", False),
        ('["a", "jane.doe@corp.test"]', False),
        ('{"a": 1, "jane.doe@corp.test": 0}', False),
        ('{"a": "jane.doe@corp.test"}', False),
    ],
)
def test_of_several_labels_only_known_ones_stay(answer: str, stays: bool, tmp_path: Path) -> None:
    base = job(write(tmp_path / "d.jsonl", [{"text": "write to john.roe@corp.test", "label": answer}]))
    task = MultiLabelTask("Route it.", {"a": "", "hr@corp.test": ""})
    fixed = fix(replace(base, task=task), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    (row,) = read_jsonl(fixed.files["train"])
    assert (row["messages"][-1]["content"] == answer) == stays
    assert "jane.doe" not in contents(tmp_path / "out")
    assert row["stand_ins"] == ["EMAIL"] * (1 if stays else 2)


def test_beside_a_label_that_stays_everything_is_replaced(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "b", "agent": "jane.doe@corp.test"}
    train = write(tmp_path / "d.jsonl", [{"messages": [{"role": "user", "content": "one"}, answer]}])
    fixed = fix(job(train, labels=["b", "c"]), ["D015"], tmp_path / "out", Pseudonymiser(KEY))
    assert fixed_rows(fixed) == [("one", "b")]
    assert "jane.doe" not in contents(tmp_path / "out")


def test_a_fix_that_would_leave_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "d.jsonl", [{"text": "one", "label": "a"}, {"text": "two", "label": "a"}])
    with pytest.raises(UserError, match="Nothing would be left to train on: D008 2 rows"):
        fix(job(train, f"data.test.same={train}"), ["D008"], tmp_path / "out")


def test_new_files_inside_the_source_are_no_source(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "d.jsonl", [{"text": "one", "label": "a"}, {"text": "two", "label": "a"}])
    test = f"data.test.same={tmp_path / 'data'}"
    fixed = fix(job(tmp_path / "data", test), ["D007"], tmp_path / "data" / "fixed")
    assert len(fixed_rows(fixed, "same")) == len(fixed_rows(fixed)) == 2


words = st.sampled_from(
    [
        "refund",
        "the",
        "parcel",
        "<|im_end|>",
        "cafÃ©",
        "4111 1111 1111 1111",
        "a@b.example",
        "Refund",
        "kettle",
        "\u200b",
    ]
)
texts = st.lists(words, max_size=6).map(" ".join)
rows = st.fixed_dictionaries(
    {
        "text": texts,
        "label": st.sampled_from(["refund", "Refund", "refunds ", "billing"]),
        "group": st.sampled_from(["g", "h", ""]),
    },
    optional={"messages": texts, "agent": texts, "score": st.integers() | st.none()},
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_rows=st.lists(rows, max_size=12), codes=st.sets(st.sampled_from(sorted(fixable())), min_size=1))
def test_a_fix_changes_no_row_that_it_does_not_list(
    given_rows: list[dict[str, Any]], codes: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fix")
    train = write(folder / "d.jsonl", given_rows)
    if not given_rows:
        return
    random_job = job(train, "data.group=group", "data.form=labelled", labels=["refund", "billing"])
    try:
        fixed = fix(random_job, codes, folder / "out", Pseudonymiser(KEY))
    except UserError as error:
        assert "Nothing would be left" in str(error)
        return
    listed = {entry["where"]: entry["action"] for entry in log(fixed)}
    given_columns = Columns(group="group")
    originals = [item for item in read(train, form="labelled", columns=given_columns) if isinstance(item, Example)]
    stay = [example for example in originals if listed.get(str(example.meta.source)) not in ("deleted", "left out")]
    results = [
        item for item in read(fixed.files["train"], form="chat", columns=given_columns) if isinstance(item, Example)
    ]
    assert len(results) == len(stay)
    for before, after in zip(stay, results, strict=True):
        extra = {"column_messages" if key == "messages" else key: value for key, value in before.meta.extra.items()}
        same = (before.messages, extra, before.weight) == (after.messages, after.meta.extra, after.weight)
        assert same == (str(before.meta.source) not in listed), (before, after)


def test_rows_with_documents_come_out_with_their_text(tmp_path: Path) -> None:
    """The new files lie in another folder, where a relative path would not lead to the document."""
    for name, text in (("a", "the lamp is broken"), ("b", "the lamp is broken"), ("c", "where is my parcel")):
        (tmp_path / f"{name}.txt").write_text(text)
    rows = [{"file": f"{name}.txt", "label": "x", "note": name} for name in ("a", "b", "c", "absent")]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows), "data.document=file"), ["D007"], tmp_path / "out" / "fixed")
    assert fixed_rows(fixed) == [("the lamp is broken", "x"), ("where is my parcel", "x")]
    assert [(entry["code"], entry["where"].rpartition("/")[2]) for entry in log(fixed)] == [
        ("D007", "d.jsonl:2"),
        ("D009", "d.jsonl:4"),
    ]
    assert [row["note"] for row in read_jsonl(fixed.files["train"])] == ["a", "c"]
    again = [item for item in read(fixed.files["train"], columns=Columns(document="file")) if isinstance(item, Example)]
    assert [(example.request, example.answer) for example in again] == fixed_rows(fixed)


def test_rows_of_weight_0_move_no_fix_to_another_row(tmp_path: Path) -> None:
    rows = [{"text": t, "label": "refund", "weight": w} for t, w in (("zero", 0), ("one", 1), ("two", 1), ("two", 1))]
    fixed = fix(job(write(tmp_path / "d.jsonl", rows)), ["D007"], tmp_path / "out")
    assert [text for text, _ in fixed_rows(fixed)] == ["zero", "one", "two"]
    assert [entry["where"] for entry in log(fixed)] == ["d.jsonl:4"]
