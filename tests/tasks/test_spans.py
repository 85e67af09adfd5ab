"""Where the values of a record stand in a text, and the way to tags for tokens and back."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.tasks import Example, Meta
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.align import Aligned, Aligner, ValueSpan, records, within
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.habits import NONE_KNOWN, Habits
from tunewright.tasks.spans.literal import literal, require_literal, summary
from tunewright.tasks.spans.reader import SpanReader
from tunewright.tasks.spans.readings import pieces, read, shaped, spelling_of
from tunewright.tasks.spans.tags import IGNORED, TagSet, best_tags, runs, seams

TEXT: dict[str, Any] = {"type": "string"}
SPELLING = {"gmbh": "GmbH"}


def schema_of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def example(text: str, record: dict[str, Any], number: int = 0) -> Example:
    return Example.of(text, json.dumps(record), Meta(id=str(number)))


def aligner_of(schema: dict[str, Any], *examples: Example) -> Aligner:
    return Aligner([each for each in fields_of(RecordForm(schema)) if not each.choices], examples)


def words(text: str) -> list[tuple[int, int]]:
    """Offsets as a tokenizer with a frame gives them: words and signs are tokens."""
    return [(0, 0), *(match.span() for match in re.finditer(r"\w+|[^\w\s]", text)), (0, 0)]


def logits_for(tags: TagSet, labels: list[int], choices: list[int], sure: float = 8.0) -> Any:
    """Logits of a model that says what labels say."""
    found = np.zeros((len(labels), tags.columns))
    for token, label in enumerate(labels):
        found[token, max(label, 0)] = sure
    for each, number in zip(tags.choices, choices, strict=True):
        found[0, each.first + number] = sure
    return found


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("7.30", "TOTAL 7.30", {("7.30", "text")}),
        ("Atelier Lumière", "at ATELIER LUMIÈRE now", {("ATELIER LUMIÈRE", "title")}),
        ("POPULAR BOOK CO.", "POPULAR BOOK\nCO. (M)", {("POPULAR BOOK\nCO.", "text")}),
        ("1 Main St, Johor", "1 Main St\nJohor", {("1 Main St\nJohor", "lines")}),
        ("2469.59", "USD 2,469.59", {("2,469.59", "point")}),
        ("10946.15", "10.946,15 EUR", {("10.946,15", "comma")}),
        ("1234", "1 234,00 kr", {("1 234,00", "comma")}),
        ("2024-03-18", "Date: 03/18/2024", {("03/18/2024", "mdy")}),
        ("2024-03-18", "am 18.03.24", {("18.03.24", "dmy")}),
        ("2024-03-05", "05/03/2024 or 03/05/2024", {("05/03/2024", "dmy"), ("03/05/2024", "mdy")}),
        ("2024-03-18", "18. März 2024", {("18. März 2024", "month-named")}),
        ("2024-03-18", "March 18th, 2024", {("March 18th, 2024", "month-named")}),
        ("2024-02-30", "30.02.2024", set()),
        ("Tormes Envases GmbH", "TORMES ENVASES GMBH", {("TORMES ENVASES GMBH", "spelt")}),
        ("absent", "not there", set()),
    ],
)
def test_a_value_is_found_in_the_forms_that_can_be_read_back(
    value: str, text: str, expected: set[tuple[str, str]]
) -> None:
    found = {(text[start:end], name) for start, end, name in pieces(value, text, SPELLING)}
    # Whatever reads a piece otherwise to the same value is as good; the plain reading is there where one is named.
    assert expected <= found
    assert bool(expected) == bool(found)
    for piece, name in found:
        assert read(name, piece, SPELLING) is not None


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("Ärzte Süd", "of ÄRZTE\n SÜD.", ("ÄRZTE\n SÜD", "title")),
        ("Café Olé", "at Café Olé", ("Café Olé", "text")),
        ("école", "ÉCOLE", ("ÉCOLE", "lower")),
        ("2024-02-18", "18 février 2024", ("18 février 2024", "month-named")),
    ],
)
def test_a_value_is_found_where_accents_are_signs_of_their_own(
    value: str, text: str, expected: tuple[str, str]
) -> None:
    apart = unicodedata.normalize("NFD", text)
    found = [(apart[start:end], name) for start, end, name in pieces(value, apart, {})]
    assert (unicodedata.normalize("NFD", expected[0]), expected[1]) in found
    assert all(read(name, piece, {}) == value for piece, name in found)
    one = example(apart, {"a": value})
    (span,) = aligner_of(schema_of(a=TEXT), one).align(one).spans
    assert unicodedata.normalize("NFC", apart[span.start : span.end]) == expected[0]


def test_no_value_begins_or_ends_between_a_letter_and_its_accent_or_in_its_word() -> None:
    text = unicodedata.normalize("NFD", "Müller é1")
    begin, end = seams([(0, 2), (2, 3), (3, 7), (8, 9), (9, 10), (10, 11)], text)
    assert begin == [True, False, False, True, False, True]
    assert end == [False, False, True, False, True, True]


def test_a_piece_in_capitals_is_spelt_as_records_are() -> None:
    spelling = spelling_of(["Tormes GmbH", "Olivo & Figli S.r.l.", "Koi GmbH", "Halden GMBH", "Sole S.r.l.", "IMF"])
    assert spelling == {"gmbh": "GmbH", "s.r.l.": "S.r.l."}
    assert read("spelt", "SABLE PRINT GMBH", spelling) == "Sable Print GmbH", "an unseen name"
    assert read("spelt", "sable s.r.l.", spelling) == "Sable S.r.l."
    assert read("spelt", "GROßHANDEL O'NEIL-SMITH", {}) == "Großhandel O'Neil-Smith"
    assert read("spelt", "3RD CHILDREN'S", {}) == "3rd Children's"
    assert read("spelt", "van der Berg GMBH", spelling) == "van der Berg GMBH", "already spelt"


def test_a_field_is_spelt_only_where_that_reads_more_values() -> None:
    names = [f"{first} {second} GmbH" for first in ("Koi", "Olivo", "Sable", "Halden") for second in ("Print", "Paper")]
    plain = [example(f"from {name}", {"a": name}, n) for n, name in enumerate(names)]
    loud = [example(f"from {name.upper()}", {"a": name}, n) for n, name in enumerate(names)]
    schema = schema_of(a=TEXT)
    assert aligner_of(schema, *plain, *loud[:2]).kinds == [("a", "text")], "two are too few"
    assert aligner_of(schema, *loud[:3]).kinds == [("a", "spelt")]
    aligner = aligner_of(schema, *plain, *loud)
    assert (aligner.kinds, aligner.habits.spellings) == ([("a", "spelt")], {"a": {"gmbh": "GmbH"}})
    assert all(aligner.align(each).spans[0].reading == "spelt" for each in (*plain, *loud))
    assert aligner_of(schema, *plain).habits.spellings == {}
    codes = [example(f"no. {n}", {"a": n}) for n in ("IBM", "SAP", "KLM", "BMW")]
    assert aligner_of(schema, *plain, *codes, *loud).kinds == [("a", "text")], "a piece in capitals may be one of these"


@pytest.mark.parametrize(
    ("schema", "holds"),
    [
        (TEXT, True),
        ({"type": "string", "pattern": "^[A-Z ]+$"}, True),
        ({"type": "string", "pattern": r"^RE[0-9]+$"}, False),
        ({"type": "string", "format": "date"}, False),
        ({"type": "number"}, False),
    ],
)
def test_a_field_holds_words_or_only_numbers_dates_and_codes(schema: dict[str, Any], holds: bool) -> None:
    (field,) = fields_of(RecordForm(schema_of(a=schema)))
    assert field.holds_words is holds


def test_numbers_dates_and_codes_are_pieces_of_a_text_whatever_stands_before_them() -> None:
    text = "2 1 234,00 20 kr on 7 03.04.2024|2024-05-06, Nr.12345 F-8795/B RM7 -5"
    found = {text[start:end] for start, end in shaped(text)}
    assert found >= {"1 234,00", "234,00", "03.04.2024", "2024-05-06", "12345", "F-8795/B", "7", "-5"}
    assert not found & {"00", "04.2024", "05-06"}, "parts of others"


def test_pieces_of_a_hostile_text_stay_short_and_few() -> None:
    text = ("1" + " " * 1600) * 250 + "1" * 5000 + ".1.2024"
    assert all(end - start <= 64 for start, end in shaped(text))
    assert len(shaped(text)) < 1000
    assert read("dmy", "1." + "1" * 5000 + ".2024", {}) is None


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string", "minLength": 10}, "from Tormes Envases", "Tormes Envases"),
        ({"type": "string", "pattern": r"^\S+@\S+\.\S+$"}, "to anna@koi.de", "anna@koi.de"),
        ({"type": "string", "pattern": "^[0-9]{5} .+$"}, "in 12345 Berlin", "12345 Berlin"),
        ({"type": "string", "pattern": "^[0-9]+ ?%$"}, "VAT 19%", "19%"),
        ({"type": "integer"}, "Rechnung Nr.12345", 12345),
    ],
)
def test_a_required_field_of_any_form_is_found(schema: dict[str, Any], text: str, value: object) -> None:
    reading = "point" if schema["type"] == "integer" else "text"
    tags = TagSet(fields_of(RecordForm(schema_of(("a",), a=schema))), [("a", reading)])
    logits = logits_for(tags, [0] * len(words(text)), [])
    start = text.index(str(value))
    for token, (begin, end) in enumerate(words(text)):
        if start <= begin < end <= start + len(str(value)):
            logits[token, 1 if begin == start else 2] = 7.9
    assert SpanReader(tags, logits, words(text), text).read(whole=True).record == {"a": value}


def test_only_the_readings_that_values_need_are_kept_and_rare_ones_are_not() -> None:
    dates = [f"2024-03-{day:02}" for day in range(13, 28)]
    said = [f"on {date[8:]}.{date[5:7]}.{date[:4]}" for date in dates[:9]]
    said += [f"on {date[5:7]}/{date[8:]}/{date[:4]}" for date in dates[9:13]]
    said += [f"on {date}" for date in dates[13:]]
    schema = schema_of(date={"type": "string", "format": "date"})
    examples = [example(text, {"date": date}) for text, date in zip(said, dates, strict=True)]
    aligner = aligner_of(schema, *examples)
    assert aligner.kinds == [("date", "dmy"), ("date", "mdy")]
    assert aligner.align(examples[-1]) == Aligned((), (), ("date",)), "two dates as they stand are too few"


def test_training_uses_the_place_that_is_like_the_other_values_places() -> None:
    schema = schema_of(total=TEXT)
    plain = [example(f"item {n}.10\nTOTAL {n}.50 thanks", {"total": f"{n}.50"}, n) for n in range(10, 30)]
    twice = example("item 7.30\nTOTAL 7.30 thanks", {"total": "7.30"})
    aligned = aligner_of(schema, *plain, twice).align(twice)
    assert aligned.spans == (ValueSpan(16, 20, "total", "text"),)
    assert aligned.others == ((5, 9),)


def test_a_value_within_a_word_or_a_number_is_none_of_the_text() -> None:
    aligner = aligner_of(schema_of(a=TEXT), example("x", {"a": "x"}))
    assert aligner.align(example("xy 1", {"a": "x"})).lost == ("a",)
    assert aligner.align(example("121", {"a": "2"})).lost == ("a",)
    assert aligner.align(example("RM7", {"a": "7"})).spans == (ValueSpan(2, 3, "a", "text"),)


def test_equal_values_of_two_fields_and_of_a_list_have_places_of_their_own() -> None:
    schema = schema_of(a=TEXT, b=TEXT, many={"type": "array", "items": TEXT})
    one = example("5 5 7 7 7", {"a": "5", "b": "5", "many": ["7", "7"]})
    aligned = aligner_of(schema, one).align(one)
    assert sorted((span.start, span.path) for span in aligned.spans if span.path != "many") == [(0, "a"), (2, "b")]
    assert sum(span.path == "many" for span in aligned.spans) == 2
    assert len(aligned.others) == 1
    three = example("5", {"a": "5", "b": "5"})
    assert aligner_of(schema, three).align(three).lost == ("b",)


def test_fields_have_paths_and_choices_differ_from_pieces() -> None:
    schema = schema_of(
        ("a", "c", "inner"),
        a=TEXT,
        b={"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        c={"enum": ["x", "y"]},
        d={"type": ["boolean", "null"]},
        inner=schema_of(("n",), n={"type": "integer"}, m={"anyOf": [{"type": "number"}, {"type": "null"}]}),
    )
    found = {each.path: each for each in fields_of(RecordForm(schema))}
    assert list(found) == ["a", "b", "c", "d", "inner.n", "inner.m"]
    assert [each.required for each in found.values()] == [True, False, True, False, True, False]
    assert (found["b"].single, found["b"].listed) == (True, True)
    assert found["c"].choices == ("x", "y")
    assert found["d"].choices == (False, True)
    assert found["inner.n"].fit("5.0") == 5
    assert found["inner.n"].fit("5.5") is None
    assert found["inner.m"].nullable
    assert found["inner.n"].among({"inner": {"n": 3}}) == [3]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"type": "array", "items": schema_of(a=TEXT)}, "list of objects"),
        ({"type": "array", "items": {"enum": ["x"]}}, "list of values that the schema offers"),
        ({"anyOf": [{"enum": ["x"]}, TEXT]}, ""),
        ({"allOf": [TEXT]}, "allOf"),
        ({"anyOf": [TEXT, schema_of(a=TEXT)]}, "object"),
    ],
)
def test_a_field_without_tags_is_refused_with_the_reason(part: dict[str, Any], why: str) -> None:
    if not why:
        assert not fields_of(RecordForm(schema_of(field=part)))[0].choices, "a text may be any"
        return
    with pytest.raises(UserError, match="field") as error:
        fields_of(RecordForm(schema_of(field=part)))
    assert why in str(error.value)


def test_a_field_that_mostly_does_not_stand_in_the_text_is_refused_with_its_share() -> None:
    fields = fields_of(RecordForm(schema_of(a=TEXT, b=TEXT)))
    records = [{"a": "x", "b": "y"}] * 10
    found = literal(fields, records, [("a",)] * 6 + [("b",)] * 1 + [()] * 3)
    assert [(each.path, each.found) for each in found] == [("a", 4), ("b", 9)]
    with pytest.raises(UserError, match=r"a \(4 of 10, 40%\)"):
        require_literal(found)
    require_literal(found[1:])
    assert summary(found[1:]).endswith("b 9 of 10")
    with pytest.raises(UserError, match="No training record has a value"):
        require_literal(literal(fields, [{}], [()]))


def test_training_targets_are_read_back() -> None:
    schema = schema_of(
        ("who", "kind"),
        who=TEXT,
        when={"type": "string", "format": "date"},
        kind={"enum": ["invoice", "reminder"]},
        items={"type": "array", "items": TEXT},
        paid={"type": "boolean"},
    )
    text = "From Rosa Bakery on 18.03.2024:\n bread, olive oil"
    record = {
        "who": "Rosa Bakery",
        "when": "2024-03-18",
        "kind": "reminder",
        "items": ["bread", "olive oil"],
        "paid": False,
    }
    one = example(text, record)
    aligner = aligner_of(schema, one)
    tags = TagSet(fields_of(RecordForm(schema)), aligner.kinds)
    assert TagSet.named(tags.fields, tags.outputs).outputs == tags.outputs
    taught = tags.targets(aligner.align(one), record, words(text), text)
    assert taught.lost == ()
    assert (taught.tags[0], taught.tags[-1]) == (IGNORED, IGNORED)
    assert taught.choices == [1, 0]
    told = tags.describe(taught.tags, taught.choices, words(text), text)
    assert told == "who: Rosa Bakery; when: 18.03.2024; items: bread; items: olive oil; kind: reminder; paid: False"
    found = SpanReader(tags, logits_for(tags, taught.tags, taught.choices), words(text), text).read(whole=True)
    assert found.record == record
    assert list(found.fields) == ["who", "when", "kind", "items[]", "paid"]
    assert all(0.9 < share < 1 for share in found.fields.values())
    assert 0.9 < found.confidence < min(found.fields.values())


def test_tokens_that_join_a_value_with_its_neighbour_cant_say_it_and_their_text_teaches_nothing_else() -> None:
    text, record = "pay RM7 now", {"a": "7"}
    one = example(text, record)
    aligner = aligner_of(schema_of(a=TEXT), one)
    tags = TagSet(fields_of(RecordForm(schema_of(a=TEXT))), aligner.kinds)
    joined = tags.targets(aligner.align(one), record, words(text), text)
    assert joined.lost == ("a",)
    assert set(joined.tags) == {IGNORED}
    parted = tags.targets(aligner.align(one), record, [(0, 3), (4, 6), (6, 7), (8, 11)], text)
    assert parted.tags == [0, 0, 1, 0]


def test_a_number_is_found_though_many_likelier_pieces_are_none() -> None:
    total = {"type": "string", "pattern": r"^[0-9]+\.[0-9]{2}$"}
    tags = TagSet(fields_of(RecordForm(schema_of(("a",), a=total))), [("a", "comma")])
    text = " ".join(["pay", "as", "soon", "as", "you", "can"] * 3) + " due 9.735,83 EUR"
    logits = logits_for(tags, [0] * len(words(text)), [])
    logits[1:19, 1:3] = 7.9  # 171 pieces of these words are likelier than the amount
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "9735.83"}
    date = TagSet(fields_of(RecordForm(schema_of(("a",), a={"type": "string", "format": "date"}))), [("a", "text")])
    text = text.replace("9.735,83", "2024-03-18")
    logits = logits_for(date, [0] * len(words(text)), [])
    logits[1:19, 1:3] = 7.9
    assert SpanReader(date, logits, words(text), text).read(whole=True).record == {"a": "2024-03-18"}


def test_a_field_of_whole_numbers_cuts_none() -> None:
    rows = [example(f"sum {n}.50 on {n}/04/18 part {n}.7", {"a": f"{n}.50", "b": f"{n}"}) for n in range(10, 70)]
    schema = schema_of(("a",), a=TEXT, b=TEXT)
    habits = aligner_of(schema, *rows).habits
    assert habits.whole_numbers == ("a",)
    assert aligner_of(schema, *rows[1:]).habits.whole_numbers == (), "too few to know"
    tags = TagSet(fields_of(RecordForm(schema)), [("a", "text"), ("b", "text")], habits)
    text = "sum 12.50 12/04"
    logits = logits_for(tags, [0, 0, 1, 0, 0, 0, 0, 0, 0], [])
    logits[3:5, 2] = 7
    assert SpanReader(tags, logits, words(text), text).read(whole=True).record == {"a": "12.50"}
    logits = logits_for(tags, [0, 0, 3, 0, 0, 0, 0, 0, 0], [])
    logits[7, 1], logits[5, 1], logits[6:8, 2] = 7.9, 7, 7.9
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "12/04", "b": "12"}, "b may cut one, and a not where it is looked for either"


def test_a_field_of_one_line_does_not_go_on_in_the_next() -> None:
    names = [example(f"{n} Main\nat Koi {n} Print\nno. {n}", {"a": f"Koi {n}", "b": f"{n} Main at"}) for n in range(60)]
    schema = schema_of(("a",), a=TEXT, b=TEXT)
    habits = aligner_of(schema, *names).habits
    assert habits.one_line == ("a",)
    assert aligner_of(schema, *names[1:]).habits.one_line == (), "too few to know"
    tags = TagSet(fields_of(RecordForm(schema)), [("a", "text"), ("b", "text")], habits)
    text = "Koi Print\nNo 7"
    logits = logits_for(tags, [0, 1, 2, 2, 0, 0], [])
    assert SpanReader(tags, logits, words(text), text).read(whole=True).record == {"a": "Koi Print"}
    logits = logits_for(tags, [0, 0, 0, 0, 0, 0], [])
    logits[1:4, 1:3], logits[4, 1] = [-5, 9], -50
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "Koi Print"}, "a candidate neither"
    assert (
        TagSet.named(tags.fields, tags.outputs, Habits.model_validate_json(habits.model_dump_json())).habits == habits
    )


def test_a_marked_piece_that_cannot_be_read_is_free_for_the_whole_of_it() -> None:
    date = {"type": "string", "format": "date"}
    tags = TagSet(fields_of(RecordForm(schema_of(("a",), a=date))), [("a", "dmy")])
    text = "on 18/03/2024"
    logits = logits_for(tags, [0, 0, 1, 2, 2, 0, 0, 0], [])
    assert SpanReader(tags, logits, words(text), text).read(whole=True).record == {"a": "2024-03-18"}


def test_a_piece_that_one_field_does_not_take_is_free_for_another() -> None:
    tags = TagSet(fields_of(RecordForm(schema_of(("a", "b"), a=TEXT, b=TEXT))), [("a", "text"), ("b", "text")])
    text = "march or april"
    logits = logits_for(tags, [0, 1, 0, 1, 0], [])
    logits[1, 1], logits[3, 3] = 9, 2
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "march", "b": "april"}
    assert found.confidence < 0.01, "the model did not say so"
    logits[2, :4] = [8, 0, 0, 4]
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "march", "b": "or"}, "likelier, against what the tags say"


def test_two_pieces_marked_as_one_field_are_divided_as_is_likeliest() -> None:
    tags = TagSet(fields_of(RecordForm(schema_of(("a", "b"), a=TEXT, b=TEXT))), [("a", "text"), ("b", "text")])
    text = "march or april"
    for first, expected in ((3, {"a": "march", "b": "april"}), (7, {"a": "april", "b": "march"})):
        logits = logits_for(tags, [0, 0, 0, 0, 0], [])
        logits[1, [1, 3]], logits[3, 1] = [10, first], 9  # both are a's, and "march" a little more so
        logits[3, 3] = 4
        found = SpanReader(tags, logits, words(text), text).read(whole=True)
        assert found.record == expected


def test_a_single_value_takes_the_best_piece_and_a_list_all() -> None:
    text = "one two three"
    for part, expected in ((TEXT, {"a": "three"}), ({"type": "array", "items": TEXT}, {"a": ["one", "three"]})):
        tags = TagSet(fields_of(RecordForm(schema_of(a=part))), [("a", "text")])
        logits = logits_for(tags, [0, 1, 0, 1, 0], [])
        logits[1, 1] = 2
        assert SpanReader(tags, logits, words(text), text).read(whole=True).record == expected


def test_a_required_field_takes_a_candidate_and_unreadable_pieces_are_left_out() -> None:
    date = {"type": "string", "format": "date"}
    tags = TagSet(fields_of(RecordForm(schema_of(("a",), a=date, b=date))), [("a", "dmy"), ("a", "mdy"), ("b", "dmy")])
    text = "5 18.03.2024 5"
    offsets = [(0, 0), (0, 1), (2, 12), (13, 14), (0, 0)]
    logits = logits_for(tags, [0, 0, 0, 0, 0], [])
    logits[2, 3] = 4  # month first, which a month of 18 can't be: the day is
    found = SpanReader(tags, logits, offsets, text).read(whole=True)
    assert found.record == {"a": "2024-03-18"}
    assert found.fields["a"] < 0.05
    assert SpanReader(tags, logits, offsets, text).read(whole=False).record == {}
    logits[1, 5] = 9  # "5" as b's date
    assert "b" not in SpanReader(tags, logits, offsets, text).read(whole=True).record
    nothing = SpanReader(tags, logits[[0, 1, 4]], [(0, 0), (0, 1), (0, 0)], "5").read(whole=True)
    assert nothing.record == {}


def test_a_value_that_may_be_meant_at_several_places_is_found_at_the_likeliest() -> None:
    tags = TagSet(
        fields_of(RecordForm(schema_of(a=TEXT, b={"type": "array", "items": TEXT}))), [("a", "text"), ("b", "text")]
    )
    text = "7 or 8 or 9"
    logits = logits_for(tags, [0] * 7, [], 0)
    logits[[1, 3, 5], :2] = [[9, 8.2], [9, 8.4], [9, 8.2]]
    logits[[2, 4], 0] = 9
    found = SpanReader(tags, logits, words(text), text).read(whole=True)
    assert found.record == {"a": "8"}
    assert found.fields["a"] == pytest.approx(0.354, abs=0.01)
    logits[[1, 3], 1] = 0
    assert SpanReader(tags, logits, words(text), text).read(whole=True).record == {}


def test_an_optional_choice_may_have_no_value() -> None:
    tags = TagSet(fields_of(RecordForm(schema_of(("a",), a={"enum": ["x", "y"]}, b={"enum": ["x"]}))), [])
    assert [each.options for each in tags.choices] == [("x", "y"), ("x", None)]
    found = SpanReader(tags, logits_for(tags, [0, 0, 0], [1, 1]), words("q"), "q").read(whole=True)
    assert found.record == {"a": "y"}


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.lists(st.floats(-4, 4), min_size=5, max_size=5), st.booleans(), st.booleans()), max_size=5)
)
@settings(max_examples=200, deadline=None)
def test_the_sequence_of_tags_is_the_likeliest_of_all_legal_ones(
    tokens: list[tuple[list[float], bool, bool]],
) -> None:
    scores = np.array([row for row, _, _ in tokens]).reshape(-1, 5)
    begin, end = [each for _, each, _ in tokens], [each for _, _, each in tokens]

    def legal(tags: tuple[int, ...]) -> bool:
        for at, tag in enumerate(tags):
            before = tags[at - 1] if at else 0
            goes_on = tag in (2, 4)
            if goes_on and before not in (tag, tag - 1):
                return False
            if not goes_on and before and not end[at - 1]:
                return False
            if tag in (1, 3) and not begin[at]:
                return False
        return not tags or not tags[-1] or end[-1]

    def score(tags: Any) -> float:
        return sum(float(scores[at, tag]) for at, tag in enumerate(tags))

    found = best_tags(scores, *(np.array([[each] * 2 for each in ends], bool).reshape(-1, 2) for ends in (begin, end)))
    assert legal(tuple(found))
    best = max((tags for tags in itertools.product(range(5), repeat=len(tokens)) if legal(tags)), key=score)
    assert score(found) == pytest.approx(score(best))


@pytest.mark.slow
@given(st.text(alphabet="ab1 .\n", max_size=12), st.data())
@settings(max_examples=200, deadline=None)
def test_any_tags_of_any_text_are_read_as_pieces_that_begin_and_end_whole(text: str, data: st.DataObject) -> None:
    offsets = words(text)
    scores = np.array(
        data.draw(
            st.lists(st.lists(st.floats(-4, 4), min_size=5, max_size=5), min_size=len(offsets), max_size=len(offsets))
        )
    )
    tags = TagSet(
        fields_of(RecordForm(schema_of(a={"type": "array", "items": TEXT}, b=TEXT))), [("a", "text"), ("b", "text")]
    )
    record = SpanReader(tags, scores, offsets, text).read(whole=True).record
    values = [*record.get("a", []), *([record["b"]] if "b" in record else [])]
    for value in values:
        assert re.search(r"\s+".join(map(re.escape, value.split())), text)
    RecordForm(schema_of(a={"type": "array", "items": TEXT}, b=TEXT)).written(record)


def test_runs_part_values_that_touch() -> None:
    assert runs([0, 1, 2, 1, 3, 4, 0]) == [(1, 2, 0), (3, 3, 0), (4, 5, 1)]


def test_seams_are_between_words_numbers_and_characters() -> None:
    text = "ab12 €x"
    begin, end = seams([(0, 1), (1, 2), (2, 4), (5, 6), (5, 6), (6, 7)], text)
    assert begin == [True, False, True, True, False, True]
    assert end == [False, True, True, False, True, True]


def test_each_window_has_its_own_values() -> None:
    schema = schema_of(a=TEXT, b=TEXT, many={"type": "array", "items": TEXT}, c={"enum": ["X", "Y"]})
    text = "a: one\nmany: p\nb: two\nmany: q Y"
    windows = ["a: one\nmany: p\n", "many: p\nb: two\n", "b: two\nmany: q Y"]
    record = {"a": "one", "b": "two", "many": ["p", "q"], "c": "Y"}
    one = example(text, record)
    whole = aligner_of(schema, one).align(one)
    parts = [within(whole, at, at + len(window)) for at, window in zip([0, 7, 15], windows, strict=True)]
    shared = records(fields_of(RecordForm(schema)), NONE_KNOWN, record, parts, windows)
    assert shared == [{"a": "one", "many": ["p"]}, {"b": "two", "many": ["p"]}, {"b": "two", "many": ["q"], "c": "Y"}]
    cut = within(whole, 4, 20)
    assert [span.path for span in cut.spans] == ["many"]
    assert cut.others == ((0, 2), (14, 16)), "what its ends cut is not taught as nothing"
