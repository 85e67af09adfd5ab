"""The report says whose answers count as right."""

from __future__ import annotations

from tests.evaluation.scenario import candidate
from tunewright.evaluation.verdict.truth import caveat, truths
from tunewright.tasks import Example, Meta

RECORDS = candidate(0.9, splits=("test",), per_split=4)


def examples(*models: str | None) -> dict[str, Example]:
    """The examples of `RECORDS`; None: a person's answer."""
    calls = [{} if model is None else {"call": {"model": model}} for model in models]
    return {
        record.id: Example.of("Where is it?", record.gold, Meta(id=record.id, extra=extra))
        for record, extra in zip(RECORDS, calls, strict=True)
    }


def test_answers_of_people_need_no_word() -> None:
    assert caveat(truths({"test": RECORDS}, examples(None, None, None, None))) == ""


def test_a_test_set_that_an_api_answered_shows_agreement_with_it() -> None:
    (found,) = truths({"test": RECORDS}, examples(*["gpt-4o-mini"] * 4))
    assert caveat([found]) == '"Right" means here what gpt-4o-mini answered, not what people say.'
    assert "On test, gpt-4o-mini gave the answers that count as right." in found.reason
    assert "no model can be shown to be better" in found.reason


def test_a_mixed_test_set_says_how_many() -> None:
    (found,) = truths({"test": RECORDS}, examples("a", None, "b", "b"))
    assert found.teachers == {"b": 2, "a": 1}
    assert "what b and a (in 3 of 4 examples) answered" in caveat([found])


def test_of_many_teachers_the_commonest_are_named() -> None:
    (found,) = truths({"test": RECORDS}, examples("a", "b", "c", "d"))
    assert found.whose == "a and b and 2 others"


def test_a_column_that_is_called_call_is_no_teacher() -> None:
    people = examples(None, None, None, None)
    for each in people.values():
        each.meta.extra["call"] = "C-17"
    assert truths({"test": RECORDS}, people) == []


def test_pairs_that_name_no_model_may_be_peoples() -> None:
    assert truths({"test": RECORDS}, examples("", "", "", "")) == []
