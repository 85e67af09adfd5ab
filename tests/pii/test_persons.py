"""Persons and addresses, the quick tests before the patterns, and stand-ins as a whole."""

from __future__ import annotations

import errno
import itertools
import json
import runpy
import shutil
import stat
import string
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PUBLIC, REPOSITORY
from tunewright.core.errors import UserError
from tunewright.pii import Pseudonymiser, find_pii
from tunewright.pii.checks import is_card, is_iban
from tunewright.pii.finders import find_without_gates
from tunewright.pii.gazetteer import gazetteer

KEY = b"a key only for these tests"
PERSONS = [
    ("Anna Schmidt wrote to us", "Anna Schmidt"),
    ("ticket of Karin M. Beikexyz about a fee", "Karin M. Beikexyz"),
    ("Dear Xyloqua,\nthanks", "Xyloqua"),
    ("I waited.\n\nBest regards,\nXyloqua Zzyzx", "Xyloqua Zzyzx"),
    ("It is late\nRegards\nLena", "Lena"),
    ("Hi, this is Xyloqua calling about my card", "Xyloqua"),
    ("My name is Xyloqua van den Zzyzx", "Xyloqua van den Zzyzx"),
    ("Name: Xyloqua Zzyzx\nPhone: none", "Xyloqua Zzyzx"),
    ("Cardholder: Xyloqua Zzyzx\nCard: none", "Xyloqua Zzyzx"),
    ("Good morning, Xyloqua, how are you?", "Xyloqua"),
    ("Señora Xyloqua Zzyzx rang", "Xyloqua Zzyzx"),
    ("from Xyloqua Zzyzx <x@example.com>", "Xyloqua Zzyzx"),
    ("remove my daughter Xyloqua from the plan", "Xyloqua"),
    ("I spoke with Giorgos yesterday", "Giorgos"),
    ("the account of ANNA SCHMIDT is locked", "ANNA SCHMIDT"),
    ("we met Petrovskaya there", "Petrovskaya"),
    ("Will Smith called", "Will Smith"),
    ("Sinéad O'Brien's order", "Sinéad O'Brien"),
    ("we met Medina Yunis there", "Medina Yunis"),  # the family name first
]
NO_PERSONS = [
    "Dear Customer, Hello There, Hi Team, Dear Sir or Madam",
    "Will you come in May or April? Mark it, please. Grace period? Hope so.",
    "Apple Pay, Google Pay and Visa Card are on the Price List",
    "I live in France, near Paris, not in Jordan or Georgia",
    "the Morgan Stanley Bank, Johnson Inc. and the Miller Institute",
    "Jones, Smith and Davis have offices",
    "I am Italian and it is Monday. This is Great!",
    "my name is wrong on the card",
    "call anna schmidt",
]
ADDRESSES = [
    "18500 N. Allied Way, Phoenix, AZ 85054",
    "145 LONG FELLOW DRIVE",
    "218 datura st.",
    "8301 E Prentice Ave., Ste. 305, Green Wood Village, CO 80111",
    "Rue du Bac 7",
    "20 Rue Hsine Eloued",
    "Villacher Strasse 89",
    "Kärntner Straße 12",
    "Parkstr. 5",
    "2274 Via delle Coste 41",
    "ul. Miła 53",
    "P.O. Box 104",
    "Minneapolis, MN 55401",
    "305 Main, Fort Cobb, OK 73038",
    "504 seville d ste 201 denton tx 76205",
    "1341 State Road 75",
]
NO_ADDRESSES = [
    "I waited 20 days on the road and 3 times on the way",
    "2 miles down the road, 5 star street food",
    "in Spring 2024 and Fall 2023 via Email 24 hours a day",
    "Please place 2 orders; Place Order 5 of 7",
    "post 2 letters, zip 3 files",
    "I paid 20 dollars in 12345 parts, 3 cards or 54321 points",
    "Loop 3 runs on 2 Google roads",
    "Room for 2 in a flat",
    "sent to 3 people, delivered on 5 May",
    "Highway to Hell, Route planning takes 3 minutes",
]


@pytest.mark.parametrize(("text", "name"), PERSONS)
def test_persons_are_found_whole_and_alone(text: str, name: str) -> None:
    assert [(span.kind, span.text) for span in find_pii(text) if span.kind != "EMAIL"] == [("PERSON", name)]


@pytest.mark.parametrize("text", NO_PERSONS)
def test_words_with_a_capital_are_not_persons(text: str) -> None:
    assert find_pii(text) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_found_whole(address: str) -> None:
    assert [(span.kind, span.text) for span in find_pii(f"please use {address} from now on")] == [("ADDRESS", address)]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_numbers_beside_words_are_not_addresses(text: str) -> None:
    assert find_pii(text) == []


def test_parts_of_a_found_name_are_found_elsewhere() -> None:
    text = "Xyloqua Zzyzx <x@example.com> wrote. Then Zzyzx, XYLOQUA and zzyzx."
    assert [span.text for span in find_pii(text) if span.kind == "PERSON"] == ["Xyloqua Zzyzx", "Zzyzx", "XYLOQUA"]


def test_a_name_is_given_or_family_and_ordinary_words_are_neither_on_their_own() -> None:
    known = gazetteer()
    assert len(known.given) > 10_000 and len(known.family) > 10_000
    assert not known.given & known.family
    assert {"Anna", "Schmidt", "O'Brien", "Brien", "SCHMIDT"} <= known.parts
    assert not {"Will", "May", "Please", "Customer"} & known.parts


PIECES = st.sampled_from(
    [
        *[text for text, _ in PERSONS],
        *NO_PERSONS,
        *ADDRESSES,
        *NO_ADDRESSES,
        *" .,:;\n-@/#'’ıſİK²٣é\u00a0\u2011\u2013",
        "İs",
        "Anna",
        "Schmidt",
        "O'Brien",
        "van",
        "J.",
        "Regards\n",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "phone +1 415 555 0132",
        "SSN 078-05-1120",
        "born 24 March 1984",
        "10.0.0.1",
        "::1",
        "fe80::1:2:3:4",
        "a@b.example",
        "pin: 1234",
        "db_pwd=1234",
        "https://u:p1@h",
        "xoxb-1234567890",
        "AKIA" + "A" * 16,
        "ghp_" + "a" * 36,
        "sk-" + "a" * 24,
        "zip code is 53650",
        "Apt. 4",
        "12",
        "Elm Street",
        "FPO AA 85844",
        "d.o.b 1/2/1990",
        "lives at",
        "client :",
        "road",
        "eyJaaaaaaaaa.eyJaaaaaaaaa.",
        "AccountKey=" + "a" * 40,
        "-----BEGIN PRIVATE KEY-----",
        "card",
        "call",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=8).flatmap(
    lambda pieces: st.sampled_from(["", " ", "\n"]).map(lambda between: between.join(pieces))
)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_the_gates_change_nothing(text: str) -> None:
    assert find_pii(text) == find_without_gates(text)


def real_texts(count: int) -> list[str]:
    """Texts of five data sets, `count` of each."""
    names = ("banking77", "clinc150_oos", "presidio_pii", "pkg_usaddress", "sroie_receipts")
    paths = [PUBLIC / f"{name}.jsonl" for name in names]
    rows = [json.loads(line) for path in paths for line in itertools.islice(path.open(encoding="utf-8"), count)]
    return [text for row in rows for text in (row["text"], row.get("answer")) if isinstance(text, str)]


def test_the_gates_change_nothing_on_real_texts() -> None:
    texts = real_texts(150)
    assert [find_pii(text) for text in texts] == [find_without_gates(text) for text in texts]


@pytest.mark.parametrize("name", ["banking77", "clinc150_oos"])
def test_texts_without_personal_data_raise_few_alarms(name: str) -> None:
    """`bench/pii.py` asks the same of whole data sets."""
    texts = [json.loads(line)["text"] for line in (PUBLIC / f"{name}.jsonl").open(encoding="utf-8")]
    assert sum(bool(find_pii(text)) for text in texts) <= 0.002 * len(texts)


@pytest.mark.slow
def test_no_template_is_on_both_sides_of_the_benchmarks_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "presidio_pii").mkdir()
    shutil.copy(PUBLIC / "presidio_pii.jsonl", tmp_path / "presidio_pii" / "train.jsonl")
    monkeypatch.setenv("TUNEWRIGHT_DATA", str(tmp_path))
    folder = REPOSITORY / "bench"
    monkeypatch.syspath_prepend(str(folder))
    bench = runpy.run_path(str(folder / "pii.py"))
    rows = bench["rows_of"]("presidio_pii")
    parts, again = bench["parts"](rows), bench["parts"](rows)
    ours, theirs = parts["develop"], parts["held-out"]
    assert parts == again and len(ours) + len(theirs) == len(rows) and min(len(ours), len(theirs)) > 60
    assert {row["template_id"] for row in ours}.isdisjoint(row["template_id"] for row in theirs)
    assert set(map(bench["masked"], ours)).isdisjoint(map(bench["masked"], theirs))


def names_in(text: str) -> list[str]:
    return [span.text for span in find_pii(text) if span.kind == "PERSON"]


def test_a_person_has_one_stand_in_whole_in_part_and_in_capitals() -> None:
    stand_ins = Pseudonymiser(KEY)
    (whole,) = names_in(stand_ins.replace("Anna Schmidt wrote"))
    assert names_in(stand_ins.replace("Dear Anna,\nhello")) == [whole.split()[0]]
    assert names_in(stand_ins.replace("Mrs. Schmidt wrote")) == [whole.split()[1]]
    assert names_in(Pseudonymiser(KEY).replace("for ANNA SCHMIDT today")) == [whole.upper()]


def test_the_stand_in_of_a_name_is_a_name_of_the_lists() -> None:
    first, last = Pseudonymiser(KEY).replace("Anna Schmidt").split()
    assert first in gazetteer().given and last in gazetteer().family


def test_no_stand_in_is_a_name_that_is_in_the_text_already() -> None:
    usual = Pseudonymiser(KEY).replace("Dear Anna,").removeprefix("Dear ").removesuffix(",")
    stand_ins = Pseudonymiser(KEY)
    replaced = stand_ins.replace(f"Dear Anna,\n{usual} and I met Tom. {usual.upper()}!")
    first, *_ = names_in(replaced)
    assert usual not in replaced and first != usual
    assert stand_ins.replace("Dear Anna,") == f"Dear {usual},"
    assert stand_ins.mapping["Anna"] == [first, usual]


def test_an_address_keeps_the_words_that_mark_it() -> None:
    replaced = Pseudonymiser(KEY).replace("Ship to 12 Elm Street, Apt 4, Reno, NV 89501.")
    assert "Elm" not in replaced and "Reno" not in replaced and "89501" not in replaced
    assert "Street, Apt " in replaced and ", NV " in replaced


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_stand_ins_are_repeatable_of_the_same_kinds_and_change_nothing_else(text: str) -> None:
    stand_ins = Pseudonymiser(KEY)
    once = stand_ins.replace(text)
    assert once == stand_ins.replace(text) == Pseudonymiser(KEY).replace(text)
    place = 0
    edges = [0, *(edge for span in find_pii(text) for edge in (span.start, span.end)), len(text)]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        place = once.index(text[start:end], place) + end - start


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.sampled_from([text for text, _ in PERSONS] + [f"at {address} now" for address in ADDRESSES]), st.binary())
def test_a_stand_in_is_found_as_the_same_kind_in_the_same_place(text: str, more: bytes) -> None:
    once = Pseudonymiser(KEY + more).replace(text)
    twice = Pseudonymiser(KEY + more).replace(once)
    kinds = [span.kind for span in find_pii(text)]
    assert [span.kind for span in find_pii(once)] == kinds
    assert [span.kind for span in find_pii(twice)] == kinds


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.text("0123456789", min_size=15, max_size=15), st.binary(min_size=16), st.binary(min_size=16))
def test_another_key_gives_other_stand_ins_that_pass_their_checks(digits: str, one: bytes, other: bytes) -> None:
    from tunewright.pii.checks import iban_check, luhn_digit

    body = "4" + digits[:14]
    card, account = body + luhn_digit(body), digits + "000"
    iban = "DE" + iban_check("DE", account) + account
    text = f"card {card} and iban {iban}"
    first, second = Pseudonymiser(one).replace(text), Pseudonymiser(other).replace(text)
    assert is_card(first.split()[1]) and is_iban(first.split()[-1])
    assert (first == second) == (one == other)
    assert set(first.split()).isdisjoint({card, iban})


@settings(max_examples=100, deadline=None)
@given(st.text(string.ascii_lowercase, min_size=3, max_size=12), st.text(string.digits, min_size=7, max_size=7))
def test_mail_addresses_and_phone_numbers_keep_their_shape(local: str, digits: str) -> None:
    text = f"write to {local}@acme.example or phone +1 415 {digits[:3]} {digits[3:]}"
    mail, phone = (span.text for span in find_pii(Pseudonymiser(KEY).replace(text)))
    assert len(mail.split("@")[0]) == len(local) and mail.endswith(".example")
    assert [len(group) for group in phone.split()] == [2, 3, 3, 4]


def test_the_mapping_is_written_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    stand_ins, path = Pseudonymiser(KEY), tmp_path / "mapping.json"
    stand_ins.replace("Anna Schmidt, card 4111 1111 1111 1111")
    stand_ins.save_mapping(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text(encoding="utf-8")) == dict(stand_ins.mapping)
    with pytest.raises(UserError, match="already") as caught:
        stand_ins.save_mapping(path)
    assert "Anna" not in str(caught.value)


def test_a_full_disk_leaves_no_half_of_the_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would block the next try, which must not write over a file."""
    stand_ins, path = Pseudonymiser(KEY), tmp_path / "mapping.json"
    stand_ins.replace("Anna Schmidt, card 4111 1111 1111 1111")

    def full(_: object, file: IO[str], **__: object) -> None:
        file.write("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space"):
        stand_ins.save_mapping(path)
    monkeypatch.undo()
    stand_ins.save_mapping(path)
    assert json.loads(path.read_text(encoding="utf-8")) == dict(stand_ins.mapping)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Ich bin Jörg Müller. Ich warte.", ["Jörg Müller"]),
        ("Da bin ich, Anna Schmidt", ["Anna Schmidt"]),
        ("Per favore, sono Giulia Ferrari. Per ora aspetto.", ["Giulia Ferrari"]),
        ("Une question de Claire Dubois", ["Claire Dubois"]),
        ("Het pakket van Jan de Vries is weg", ["Jan de Vries"]),
        ("Los datos de Carmen García", ["Carmen García"]),
        ("Please refund Jack Ma and Anh Le", ["Jack Ma", "Anh Le"]),
        ("Thomas Dank, Lisa Tag und Emma Como", ["Thomas Dank", "Lisa Tag", "Emma Como"]),
        ("My name is Da Silva", ["Da Silva"]),
        ("Wenn Sie Fragen haben, melden Sie sich. Bitte senden Sie Unterlagen.", []),
        ("Leider Probleme mit Elle Magazin", []),
        ("Hallo Anna Ich habe", ["Anna"]),
        ("Alles gut.\nViele Grüße\nPer Xyloqua", ["Per Xyloqua"]),
        ("Mein Handy und die Kosten. Kunde Anna Stein hat im Juli ein Zimmer.", ["Anna Stein"]),
        ("Alles gut.\nMit freundlichen Grüßen\nXyloqua Zzyzx\nVertrieb", ["Xyloqua Zzyzx"]),
        ("Alles gut.\nViele Grüße\nIhr Support-Team", []),
        ("Merci.\nCordialement,\nXyloqua Zzyzx", ["Xyloqua Zzyzx"]),
        ("Khalid bin Walid called, and Per Andersson, and Mia", ["Khalid bin Walid", "Per Andersson", "Mia"]),
    ],
)
def test_sentences_and_signatures_in_other_languages(text: str, names: list[str]) -> None:
    assert [span.text for span in find_pii(text) if span.kind == "PERSON"] == names
