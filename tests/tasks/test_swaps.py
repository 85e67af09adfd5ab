"""Training examples in which values gave way to those of other examples."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.tasks import Example, Meta
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.align import Aligner
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.swaps import swapped_copies
from tunewright.training.loop.swapped import with_copies

Row = tuple[str, dict[str, Any]]
TEXT: dict[str, Any] = {"type": "string"}
NAMES = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra", "Barbara Liskov")
TOWNS = ("Berlin", "Oslo", "New York", "Lyon", "Porto", "Kyoto")


def form_of(**properties: Any) -> RecordForm:
    return RecordForm({"type": "object", "properties": properties})


def examples_of(form: RecordForm, *rows: Row) -> list[Example]:
    return [Example.of(text, form.written(record), Meta(id=str(n)), 2.0) for n, (text, record) in enumerate(rows)]


def copies_of(form: RecordForm, *rows: Row, copies: int = 40) -> list[Row]:
    made = swapped_copies(form, examples_of(form, *rows), copies, seed=1)
    return [(each.request, json.loads(each.answer)) for each in made]


def test_copies_hold_the_values_of_other_rows_in_text_and_record() -> None:
    form = form_of(name=TEXT, town=TEXT)
    rows = [(f"{name} moved to {town}.", {"name": name, "town": town}) for name, town in zip(NAMES, TOWNS, strict=True)]
    examples = examples_of(form, *rows)
    copies = swapped_copies(form, examples, 3, seed=1)
    assert len(copies) == 18
    for example, copy in zip(examples * 3, copies, strict=True):
        record = json.loads(copy.answer)
        assert copy.request == f"{record['name']} moved to {record['town']}."
        assert record["name"] in NAMES and record["town"] in TOWNS
        assert (copy.meta, copy.importance) == (example.meta, 2.0)
    assert len({copy.request for copy in copies} - {example.request for example in examples}) >= 9
    assert swapped_copies(form, examples, 3, seed=1) == copies != swapped_copies(form, examples, 3, seed=2)


def test_a_value_gives_way_wherever_it_stands() -> None:
    form = form_of(total=TEXT)
    rows = [("Total 7.30, cash 7.30", {"total": "7.30"}), ("Total 8.15", {"total": "8.15"})]
    for text, record in copies_of(form, *rows):
        assert set(re.findall(r"\d\.\d\d", text)) == {record["total"]}


def test_a_value_that_stands_elsewhere_in_another_form_stays() -> None:
    form = form_of(day=TEXT)
    rows = [("On 2024-03-18, that is 18.03.2024", {"day": "2024-03-18"}), *[
        (f"On {day:02}.05.2024", {"day": f"2024-05-{day:02}"}) for day in range(13, 20)
    ], *[(f"On 2023-07-{day}", {"day": f"2023-07-{day}"}) for day in range(13, 20)]]  # fmt: skip
    kept = copies_of(form, *rows)[:: len(rows)]
    assert all(copy == rows[0] for copy in kept)


def test_a_value_that_another_one_shares_its_place_with_stays() -> None:
    form = form_of(payer=TEXT, owner=TEXT)
    rows = [("Paid by Oslo Ltd", {"payer": "Oslo Ltd", "owner": "Oslo Ltd"}), ("Paid by Acme", {"payer": "Acme"})]
    assert all(copy == rows[0] for copy in copies_of(form, *rows)[::2])


def test_a_date_gives_way_only_to_one_with_the_same_signs() -> None:
    form = form_of(day={"type": "string", "format": "date"})
    rows = [
        (f"Date {day}{sign}05{sign}2024", {"day": f"2024-05-{day}"}) for sign in ("/", ".") for day in range(13, 29)
    ]
    copies = copies_of(form, *rows, copies=3)
    assert sum(copy != row for row, copy in zip(rows * 3, copies, strict=True)) > 20
    for (before, _), (text, record) in zip(rows * 3, copies, strict=True):
        assert ("/" in before) == ("/" in text)
        assert record["day"][-2:] == text.split()[1][:2]


def test_numbers_and_codes_get_other_digits_and_amounts_and_dates_do_not() -> None:
    form = form_of(code=TEXT, total={"type": "number"}, day=TEXT)
    rows = [
        (f"No. A{n}B: 1,{n:03}.50 on 03/{n}/2024", {"code": f"A{n}B", "total": 1000.5 + n, "day": f"2024-03-{n}"})
        for n in range(13, 25)
    ]
    copies = copies_of(form, *rows)
    seen: dict[str, set[Any]] = {name: {record[name] for _, record in rows} for name in ("code", "total", "day")}
    assert {record["total"] for _, record in copies} == seen["total"]
    assert {record["day"] for _, record in copies} == seen["day"]
    codes = {record["code"] for _, record in copies}
    assert codes > seen["code"]
    assert all(re.fullmatch(r"A[1-9]\dB", code) for code in codes)
    assert all(f"No. {record['code']}: " in text for text, record in copies)


def test_a_piece_does_not_run_into_the_word_before_it() -> None:
    form = form_of(total=TEXT)
    rows = [("TOTAL RM7.30", {"total": "7.30"}), ("TOTAL nothing", {"total": "nothing"})]
    assert {text for text, _ in copies_of(form, *rows)} == {"TOTAL RM7.30", "TOTAL nothing", "TOTAL 7.30"}


def test_items_of_lists_give_way_one_by_one() -> None:
    form = form_of(names={"type": "array", "items": TEXT, "uniqueItems": True})
    rows = [
        ("Ada Lovelace and Alan Turing", {"names": ["Ada Lovelace", "Alan Turing"]}),
        ("Grace Hopper", {"names": ["Grace Hopper"]}),
    ]
    copies = copies_of(form, *rows)
    assert len({text for text, _ in copies}) > 4
    for text, record in copies:
        assert sorted(text.split(" and ")) == sorted(record["names"])
        assert len(set(record["names"])) == len(record["names"])


def test_every_value_still_stands_in_its_text() -> None:
    form = form_of(name=TEXT, town=TEXT, people={"type": "array", "items": TEXT}, kind={"enum": ["move", "visit"]})
    rows = [
        (
            f"{NAMES[n % 6]} from {TOWNS[n % 5]} met {NAMES[n % 4]} and {NAMES[(n + 3) % 6]} ({n})",
            {"name": NAMES[n % 6], "town": TOWNS[n % 5], "people": [NAMES[(n + 3) % 6]], "kind": "visit"},
        )
        for n in range(40)
    ]
    examples = examples_of(form, *rows)
    aligner = Aligner([each for each in fields_of(form) if not each.choices], examples)
    copies = swapped_copies(form, examples, 5, seed=3)
    assert sum(copy.request != example.request for copy, example in zip(copies, examples * 5, strict=True)) > 100
    for copy, example in zip(copies, examples * 5, strict=True):
        assert aligner.align(copy).lost == aligner.align(example).lost
        assert form.canonical(copy.answer) == copy.answer


def test_records_whose_values_cannot_be_found_are_refused_in_one_paragraph() -> None:
    items = {"type": "array", "items": {"type": "object", "properties": {"name": TEXT}}}
    schema = {"type": "object", "properties": {"items": items}}
    task = {"kind": "extract", "instruction": "Read.", "schema": schema}
    spec = make_spec(task=task, train={"num_swapped_copies": 2})
    with pytest.raises(UserError, match=r"num_swapped_copies: No copies .* field items: it is a list of objects.*=0"):
        with_copies(spec, [])


def test_no_other_task_has_copies() -> None:
    with pytest.raises(UserError, match="num_swapped_copies is for extract only; this task is classify: leave it at 0"):
        make_spec(train={"num_swapped_copies": 2})
