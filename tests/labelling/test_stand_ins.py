"""Personal data that teachers do not read."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.stand_ins import KEY as KEY_FILE
from tunewright.labelling.stand_ins import Hidden, StandIns, key_of
from tunewright.pii import Pseudonymiser
from tunewright.pii.gazetteer import gazetteer
from tunewright.tasks import task_of

PROPERTIES = {"name": {"type": "string"}, "born": {"type": "string"}, "total": {"type": "number"}}
SCHEMA = {"type": "object", "properties": PROPERTIES}
FIELDS = task_of(make_spec(task={"kind": "extract", "instruction": "Read", "schema": SCHEMA}).task)
WRITE = task_of(make_spec(task={"kind": "generate", "instruction": "Write"}).task)
LETTER = Unlabelled("1", "My name is Anna Schmidt, born on 03/14/1975. I paid 12.50 for it. Regards, Anna Schmidt")
KEY = bytes(range(32))


@pytest.fixture
def stand_ins() -> StandIns:
    return StandIns(KEY)


def stand_in_of(hidden: Hidden, value: str) -> str:
    return next(stand_in for stand_in, each in hidden.pairs if each == value)


def test_a_key_is_drawn_once_and_read_ever_after(tmp_path: Path) -> None:
    forgotten = key_of(tmp_path, make=False)
    assert not list(tmp_path.iterdir())
    key = key_of(tmp_path, make=True)
    assert len(key) == 32 and key != forgotten
    assert key_of(tmp_path, make=True) == key_of(tmp_path, make=False) == key
    assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in tmp_path.iterdir()] == [(KEY_FILE, 0o600)]


def test_an_empty_key_file_is_none(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).touch()
    key = key_of(tmp_path, make=True)
    assert StandIns(key).hidden(LETTER).pairs
    assert key_of(tmp_path, make=True) == key


def test_a_cut_key_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(UserError, match=r"stand-ins\.key: .*at least 16 bytes; this one has 5\..*from a copy"):
        key_of(tmp_path, make=True)
    assert (tmp_path / KEY_FILE).read_bytes() == b"short"


def test_a_request_is_read_without_its_personal_data_and_a_key_repeats_that(stand_ins: StandIns) -> None:
    hidden = stand_ins.hidden(LETTER)
    assert not any(each in hidden.text for each in ("Anna", "Schmidt", "1975"))
    assert "I paid 12.50 for it." in hidden.text
    assert StandIns(KEY).hidden(LETTER) == hidden
    assert StandIns(KEY[::-1]).hidden(LETTER) != hidden
    assert StandIns(None).hidden(LETTER) == Hidden(LETTER.text)


def test_a_text_gets_the_values_back_word_by_word(stand_ins: StandIns) -> None:
    hidden = stand_ins.hidden(LETTER)
    whole, first = stand_in_of(hidden, "Anna Schmidt"), stand_in_of(hidden, "Anna")
    assert stand_ins.answer(WRITE, LETTER, f"Dear {first}, or {whole}.") == "Dear Anna, or Anna Schmidt."


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Anne'Marie'Claire Dupont", ["Anne'Marie", "Claire", "Dupont"]),
        (
            "Anna O\N{RIGHT SINGLE QUOTATION MARK}Brien'Smith",
            ["Anna", "O\N{RIGHT SINGLE QUOTATION MARK}Brien", "Smith"],
        ),
    ],
)
def test_a_name_with_two_apostrophes_has_a_way_back(name: str, words: list[str]) -> None:
    row = Unlabelled("5", f"My name is {name}. Regards, {name}")
    for seed in range(10):
        made = StandIns(bytes([seed]) * 32)
        hidden = made.hidden(row)
        assert name not in hidden.text
        assert made.answer(WRITE, row, hidden.text) == row.text
        for word in words:
            assert made.answer(WRITE, row, f"Dear {stand_in_of(hidden, word)}") == f"Dear {word}"


def test_a_record_gets_the_values_back(stand_ins: StandIns) -> None:
    hidden = stand_ins.hidden(LETTER)
    given = {"name": stand_in_of(hidden, "Anna Schmidt"), "born": stand_in_of(hidden, "03/14/1975"), "total": 12.5}
    found = stand_ins.answer(FIELDS, LETTER, FIELDS.canonical(json.dumps(given)))
    assert found
    assert json.loads(found) == {"name": "Anna Schmidt", "born": "03/14/1975", "total": 12.5}


def test_a_stand_in_in_another_form_is_no_answer(stand_ins: StandIns) -> None:
    hidden = stand_ins.hidden(LETTER)
    month, day, year = stand_in_of(hidden, "03/14/1975").split("/")
    name = stand_in_of(hidden, "Schmidt")
    for record in ({"born": f"{year}-{month}-{day}"}, {"name": name.upper()}, {"name": f"{name}s want their money"}):
        assert stand_ins.answer(FIELDS, LETTER, FIELDS.canonical(json.dumps(record))) is None
    assert stand_ins.answer(WRITE, LETTER, f"The {name}s were born on {year}-{month}-{day}.") is None


def test_a_part_of_a_stand_in_s_digits_is_no_answer() -> None:
    hidden = Hidden("card 4000001234567899", stand_ins=frozenset({"4000001234567899"}))
    assert hidden.is_left_in("7899", "card 4111111111111111")
    assert not hidden.is_left_in("1111", "card 4111111111111111")


def test_what_a_teacher_concludes_is_an_answer(stand_ins: StandIns) -> None:
    phone = Unlabelled("3", "Call +1 415 555 2671. We lost both keys, says Anna Schmidt.")
    for count in range(10):
        given = FIELDS.canonical(json.dumps({"total": count, "name": "no"}))
        assert stand_ins.answer(FIELDS, phone, given) == given


def test_a_stand_in_of_two_persons_has_no_way_back() -> None:
    firsts = [name.title() for name in sorted(gazetteer().given)[::10][:200]]
    row = Unlabelled("4", "\n".join(f"My name is {name} Schmidt." for name in firsts))
    lost = 0
    for seed in range(2):
        made = StandIns(bytes([seed]) * 32)
        hidden = made.hidden(row)
        for stand_in in hidden.stand_ins - {each for each, _ in hidden.pairs}:
            lost += 1
            assert made.answer(WRITE, row, f"Dear {stand_in}") is None
    assert lost


def test_no_log_shows_a_request(stand_ins: StandIns) -> None:
    assert "Anna" not in repr(stand_ins.hidden(LETTER))


def test_there_is_a_way_back_from_many_names() -> None:
    names = [
        f"{first} {last}" for first in ("Anna", "Peter", "Maria", "John", "Laura") for last in ("Schmidt", "Miller")
    ]
    row = Unlabelled("2", "\n".join(f"My name is {name}." for name in names))
    for seed in range(20):
        made = StandIns(bytes([seed]) * 32)
        hidden = made.hidden(row)
        assert len({stand_in for stand_in, _ in hidden.pairs}) == len(hidden.pairs)
        assert hidden.shown(hidden.text) == row.text


def test_names_are_put_in_order_once_for_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long as reading a hundred requests."""
    names = [f"{first} {last}" for first in ("Anna", "Peter", "Maria", "Laura") for last in ("Schmidt", "Miller")]
    rows = [Unlabelled(str(n), "\n".join(f"My name is {name}." for name in names[n % 4 :: 2])) for n in range(20)]
    alone = [StandIns(KEY).hidden(row) for row in rows]
    keys = []

    class Counted(Pseudonymiser):
        def __init__(self, key: bytes):
            keys.append(key)
            super().__init__(key)

    monkeypatch.setattr("tunewright.labelling.stand_ins.Pseudonymiser", Counted)
    together = StandIns(KEY)
    assert [together.hidden(row) for row in rows] == alone
    assert keys
    assert len(set(keys)) == len(keys)
