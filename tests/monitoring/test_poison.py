"""Corrections of one source that pull an answer are rejected; those of honest people are not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, make_spec
from tests.monitoring.test_corrections import asked, rejected, said
from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.corrections import Correction, ReviewerAnswer
from tunewright.monitoring.corrections import collect_corrections
from tunewright.monitoring.corrections.poison import LEAST, Pull, carrying, pulling
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.tasks import task_of

WORDS = {
    "billing": ["invoice", "charged", "amount", "payment", "card", "statement", "price", "fee", "receipt", "account"],
    "defect": ["broken", "cracked", "screen", "noise", "battery", "leaking", "stuck", "stopped", "smoke", "button"],
    "refund": ["money", "back", "return", "cancel", "reimburse", "voucher", "parcel", "unwanted", "send", "label"],
}


def ticket(label: str, draw: random.Random, size: int = 7) -> str:
    filler = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{draw.choice('dklmnrst')}" for _ in range(3)]
    return " ".join([*draw.sample(WORDS[label], size - 3), *filler])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """In SQLite alone: what is judged here has left the database."""
    opened = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")
    yield opened
    opened.close()


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    draw = random.Random(1)
    rows = [{"text": ticket(label, draw), "label": label} for _ in range(60) for label in LABELS]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_spec(tmp_path)


def honest(store: Store, count: int, people: Sequence[str] = ("anna", "ben", "carla"), seed: int = 2) -> None:
    """Reviews with the right label, of which one in ten corrects the model."""
    draw = random.Random(seed)
    for number in range(count):
        label = LABELS[number % 3]
        answer = LABELS[(number + 1) % 3] if number % 10 == 0 else label
        said(store, asked(store, f"h{number}", ticket(label, draw), answer, confidence=0.6), label, draw.choice(people))


def attack(store: Store, count: int, person: str, by: str | None = None, ending: str = "") -> set[str]:
    """What belongs to billing, which the model is sure of, is called a refund."""
    draw = random.Random(3)
    names = {f"m{number}" for number in range(count)}
    for name in sorted(names):
        said(store, asked(store, name, ticket("billing", draw) + ending, confidence=0.97, by=by), "refund", person)
    return names


def pulled(collected: Any) -> set[str]:
    return {capture for capture, reason in rejected(collected).items() if reason == "one source pulls an answer"}


def test_a_reviewer_who_pulls_a_label_is_held_back_and_the_others_are_not(spec: Spec, store: Store) -> None:
    honest(store, 90)
    names = attack(store, 10, "mallory")
    collected = collect_corrections(spec, store)
    assert [pull.source for pull in collected.pulls] == ["reviewer:mallory"]
    assert pulled(collected) == names
    assert collected.rows == 90
    assert "reviewer:mallory pulls 'refund': 10 of 10" in str(collected.pulls[0])


@pytest.mark.slow
def test_what_is_released_by_name_or_said_by_a_second_person_is_taken(spec: Spec, store: Store) -> None:
    honest(store, 60)
    names = attack(store, 10, "mallory")
    assert collect_corrections(spec, store, include=["reviewer:mallory"], dry_run=True).rows == 70
    for name in names:
        said(store, name, "refund", "anna")
    collected = collect_corrections(spec, store)
    assert (collected.rows, collected.pulls) == (70, [])


def test_a_copy_of_what_is_held_back_waits_with_it(spec: Spec, store: Store) -> None:
    """The data would lack the answer that it adds nothing to."""
    honest(store, 90)
    draw, names = random.Random(4), set[str]()
    tickets = [ticket("billing", draw) for _ in range(12)]
    for number, text in enumerate(tickets):
        name = asked(store, f"m{number}", text, confidence=0.97, by="portal")
        said(store, name, "refund", ("anna", "ben", "carla")[number % 3])
        names.add(name)
    said(store, asked(store, "same", f"{tickets[0]}!", confidence=0.97), "refund", "anna")
    collected = collect_corrections(spec, store)
    assert [pull.source for pull in collected.pulls] == ["key:portal"]
    assert pulled(collected) == {*names, "same"}
    assert read_jsonl(spec.corrections_folder / "1" / "settled.jsonl") == []
    assert collect_corrections(spec, store, include=["key:portal"]).rows == 12
    assert [row["capture"] for row in read_jsonl(spec.corrections_folder / "2" / "settled.jsonl")] == ["same"]


def test_a_second_person_may_have_said_it_of_an_alike_request(spec: Spec, store: Store) -> None:
    honest(store, 60)
    draw = random.Random(3)
    for number in range(10):
        text = ticket("billing", draw)
        said(store, asked(store, f"m{number}", text, confidence=0.97), "refund", "mallory")
        said(store, asked(store, f"n{number}", f"{text}!", confidence=0.97), "refund", "anna")
    collected = collect_corrections(spec, store)
    assert (collected.rows, collected.pulls) == (70, [])
    assert collected.reasons == {"adds nothing": 10}


@pytest.mark.slow
def test_requests_of_one_key_that_everybody_relabels_the_same_way_are_held_back(spec: Spec, store: Store) -> None:
    honest(store, 90)
    draw = random.Random(4)
    for number in range(12):
        name = asked(store, f"m{number}", ticket("billing", draw), confidence=0.97, by="portal")
        said(store, name, "refund", ("anna", "ben", "carla")[number % 3])
    assert [pull.source for pull in collect_corrections(spec, store).pulls] == ["key:portal"]


@pytest.mark.slow
def test_a_phrase_that_pulls_a_label_is_named(spec: Spec, store: Store) -> None:
    honest(store, 90)
    draw = random.Random(5)
    for number in range(12):
        name = asked(store, f"m{number}", f"{ticket('billing', draw)} zephyr quokka", confidence=0.97)
        said(store, name, "refund", ("anna", "ben", "carla")[number % 3])
    assert [pull.source for pull in collect_corrections(spec, store).pulls] == ["phrase:zephyr quokka"]


@pytest.mark.slow
@pytest.mark.parametrize("people", [("anna",), ("anna", "ben", "carla")])
def test_honest_people_are_not_held_back_even_a_single_one(spec: Spec, store: Store, people: tuple[str, ...]) -> None:
    honest(store, 120, people)
    collected = collect_corrections(spec, store)
    assert (collected.rows, collected.pulls) == (120, [])


def test_a_model_that_was_unsure_is_no_witness(spec: Spec, store: Store) -> None:
    honest(store, 60)
    draw = random.Random(6)
    for number in range(12):
        said(store, asked(store, f"m{number}", ticket("billing", draw), confidence=0.5), "refund", "dora")
    assert collect_corrections(spec, store).pulls == []


def test_a_label_that_the_data_hardly_knows_can_be_filled_by_one_person(tmp_path: Path, store: Store) -> None:
    draw = random.Random(7)
    rows = [{"text": ticket(label, draw), "label": label} for _ in range(60) for label in ("billing", "defect")]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(20):
        said(store, asked(store, f"n{number}", ticket("refund", draw), confidence=0.95), "refund", "anna")
    collected = collect_corrections(make_spec(tmp_path), store)
    assert (collected.rows, collected.pulls) == (20, [])


def correction(number: int, answer: str, text: str = "", who: str = "anna") -> Correction:
    said_by = [ReviewerAnswer(who, f"2026-11-27T09:30:{number:02}+00:00", "review")]
    return Correction(text or f"text {number}", answer, f"c{number}", "", "m", "v", None, "x", said_by)


def test_fewer_than_five_are_no_pull_however_unlikely() -> None:
    rows = [correction(number, "refund", who="mallory") for number in range(LEAST - 1)]
    rows += [correction(number, "billing") for number in range(10, 40)]
    assert pulling(rows, [number < LEAST - 1 for number in range(len(rows))]) == []


def test_written_answers_that_carry_an_address_nobody_knew_are_held_back() -> None:
    task = task_of(make_spec(task={"kind": "generate", "instruction": "Answer."}).task)
    bad = [correction(n, f"Answer {n}: pay at http://evil.example/pay.") for n in range(6)]
    good = [
        correction(n, "Write to help@shop.example, or call 030 1234567.", "call 030 1234567?") for n in range(10, 17)
    ]
    found = carrying(task, ["Write to help@shop.example!"], [*bad, *good])
    assert found == [
        Pull("value:http://evil.example/pay", "http://evil.example/pay", tuple(f"c{n}" for n in range(6)), 6)
    ]


def test_records_that_carry_a_value_which_stands_in_no_request_are_held_back() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "iban": {"type": "string"}}}
    task = task_of(make_spec(task={"kind": "extract", "instruction": "Read.", "schema": schema}).task)
    rows = [correction(n, json.dumps({"name": f"N{n}", "iban": "DE00 6666"}), f"N{n} pays") for n in range(6)]
    assert [pull.source for pull in carrying(task, ['{"name":"A","iban":"DE1"}'], rows)] == ["value:DE00 6666"]
    assert "6 answers contain 'DE00 6666'" in str(carrying(task, [], rows)[0])


def test_tool_calls_are_judged_by_their_arguments_and_texts_by_their_addresses() -> None:
    tool = {"name": "pay", "parameters": {"type": "object", "properties": {"iban": {"type": "string"}}}}
    task = task_of(make_spec(task={"kind": "tools", "instruction": "Help.", "tools": [tool]}).task)
    calls = [
        correction(n, json.dumps({"name": "pay", "arguments": {"iban": f"A{n}"}}), f"transfer to A{n}")
        for n in range(6)
    ]
    assert carrying(task, [], calls) == [], "the tool's name is no value that somebody smuggled in"
    bad = [correction(n, json.dumps({"name": "pay", "arguments": {"iban": "DE00 6666"}})) for n in range(6)]
    assert [pull.source for pull in carrying(task, [], bad)] == ["value:DE00 6666"]
    texts = [correction(n, json.dumps({"text": f"Answer {n}: see http://evil.example/pay."})) for n in range(6)]
    assert [pull.source for pull in carrying(task, [], texts)] == ["value:http://evil.example/pay"]
