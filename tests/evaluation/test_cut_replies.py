"""Replies of an API that its token limit cut: they prove nothing for anybody, and many of them measure nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.evaluation.made_report import made_report
from tests.evaluation.scenario import candidate, compared, evidence_of, verdict
from tunewright.economics import price_book
from tunewright.evaluation.evidence import Record, record_of
from tunewright.evaluation.report.table import candidate_rows
from tunewright.evaluation.statistics.pairs import paired_records
from tunewright.evaluation.verdict.decision import decide
from tunewright.evaluation.verdict.payer import page
from tunewright.inference.predictors import Answer
from tunewright.tasks import Example, Meta, MultiLabelTask

POOR = candidate(0.7, per_split=1000)
TEST = ("test",)
BOTH = ("test", "other")
LUNA = {"model": "gpt-6-luna"}


def cut(records: Sequence[Record], first: int, last: int, split: str = "test") -> list[Record]:
    """Records, of which those of a split from number `first` to `last` were cut."""
    return [
        replace(record, answer="", cut=True)
        if record.split == split and first <= int(record.id.rpartition("-")[2]) < last
        else record
        for record in records
    ]


def reasons(result: Any) -> str:
    return " ".join(result.reasons)


def test_an_api_that_answers_the_easy_rows_alone_is_no_yardstick() -> None:
    """The own model is right on the same 400 rows, and on no other."""
    paid = cut(candidate(1.0, splits=TEST, per_split=1000), 400, 1000)
    result = verdict(candidate(0.4, per_split=1000), POOR, api_answers=paid)
    assert result.decision == "keep-api"
    assert result.against_api == {}
    assert all(point.whole is None for point in result.curve["test"])
    assert "of its replies on test, 600 of 1,000 were cut" in reasons(result)
    assert "the goal of 90.0 % is the spec's" in reasons(result)
    assert "`reasoning_effort`" in reasons(result)
    assert "went without `baseline`" not in reasons(result)


def test_an_api_that_answers_the_easy_rows_alone_does_not_pass() -> None:
    luna = cut(candidate(1.0, splits=TEST, per_split=1000), 300, 1000)
    now = candidate(0.96, splits=TEST, per_split=1000)
    result = verdict(POOR, POOR, apis=[{}, LUNA], api_answers=now, others={"gpt-6-luna": luna})
    assert (result.decision, result.measure) == ("keep-api", None)
    assert "gpt-6-luna does not pass: of its replies on test, 700 of 1,000 were cut" in reasons(result)
    alone = verdict(POOR, POOR, apis=[{}, LUNA], others={"gpt-6-luna": luna})
    assert (alone.decision, alone.measure) == ("keep-api", None), "where the goal decides, too"


def test_a_split_on_which_the_api_was_cut_is_unproven_there() -> None:
    """On `other` the own model is right on one in ten, and the API's replies were all cut."""
    own = [*candidate(0.96, splits=("validation", "test")), *candidate(0.1, splits=("other",))]
    good = [*candidate(0.96), *candidate(0.96, splits=("other",))]
    paid = cut(candidate(0.96, splits=BOTH), 0, 100, "other")
    result = verdict(own, candidate(0.7, splits=BOTH), api_answers=paid, goal={"margin": 0.1})
    assert result.decision == "keep-api"
    unproven = verdict(good, candidate(0.7, splits=BOTH), api_answers=paid, goal={"margin": 0.1})
    assert unproven.decision == "keep-api"
    assert "nothing shows on other that the tuned tokenizer is as good as gpt-4o" in unproven.sentence
    assert [each.name for each in unproven.targets if not each.met] == ["no worse than gpt-4o on other"]
    accepted = verdict(good, candidate(0.7, splits=BOTH), api_answers=paid, goal={"margin": 0.1, "accept_worse": True})
    assert accepted.decision == "switch", "the goal decides"


def test_a_cascade_is_unproven_where_the_api_was_cut() -> None:
    own = [*candidate(0.8, sure=0.6), *candidate(0.8, sure=0.6, splits=("other",))]
    paid = candidate(0.8, splits=BOTH)
    changes = {"api_answers": paid, "goal": {"margin": 0.1}}
    assert verdict(own, candidate(0.7, splits=BOTH), **changes).decision in ("cascade", "switch")
    changes["api_answers"] = cut(paid, 0, 100, "other")
    result = verdict(own, candidate(0.7, splits=BOTH), **changes)
    assert result.decision == "keep-api"
    assert "is not shown to lose nothing against gpt-4o alone on other" in result.sentence


def test_a_few_cut_replies_count_as_wrong_and_speak_for_nobody_else() -> None:
    """Fifty of 1,000 are cut. The own model is right where gpt-4o is whole; it gains nothing where gpt-4o is cut."""
    whole = candidate(0.96, splits=TEST, per_split=1000)
    few = cut(whole, 0, 50)
    pair = paired_records(candidate(0.96, splits=TEST, per_split=1000), few)["test"]
    assert (pair.count, pair.difference.value) == (950, 0.0)
    against = paired_records(few, whole)["test"]
    assert (against.count, against.difference.value) == (1000, pytest.approx(-0.05))
    result = verdict(POOR, POOR, apis=[{}, LUNA], others={"gpt-6-luna": few})
    assert any("gpt-6-luna was measured (test 91.0 %;" in reason for reason in result.reasons)
    own = verdict(POOR, POOR, api_answers=few)
    assert "gpt-4o is right on 91.0 % (89.1 %–92.6 %) of 1,000 examples; on the 950 that it answered whole, the" in (
        reasons(own)
    )


def test_a_cut_reply_is_wrong_where_no_label_holds() -> None:
    task, rows = MultiLabelTask("Which?", dict.fromkeys("ab", "")), range(100)
    examples = [Example.of("x", "[]" if number % 2 else '["a"]', Meta(id=str(number))) for number in rows]
    whole = [record_of("test", each, Answer(each.answer), 0.0, task) for each in examples]
    few = [
        replace(record_of("test", each, Answer(""), 0.0, task), cut=True) if number in (1, 3, 5) else whole[number]
        for number, each in enumerate(examples)
    ]
    against = paired_records(few, whole)["test"]
    assert (against.only_first, against.only_second) == (0, 3)
    assert against.difference.value < 0


@pytest.mark.parametrize("count", [100, 101])
def test_nine_whole_replies_in_ten_are_enough(count: int) -> None:
    some = cut(candidate(1.0, splits=TEST, per_split=1000), 0, count)
    assert bool(paired_records(POOR, some)) == bool(paired_records(some, POOR)) == (count == 100)


def test_tables_say_that_a_split_was_not_measured() -> None:
    spec = make_spec(traffic={"requests_per_month": 10_000_000}, apis=[{}, LUNA])
    own = [*candidate(0.7), *candidate(0.7, splits=("other",))]
    evidence = evidence_of(own, candidate(0.6, splits=BOTH))
    evidence["api"] = cut(candidate(0.9, splits=BOTH), 0, 100, "other")
    evidence["api gpt-6-luna"] = cut(candidate(0.9, splits=TEST), 0, 100)
    comparison = compared(spec, evidence)
    rows = {row["key"]: row for row in candidate_rows(json.loads(json.dumps({"comparison": asdict(comparison)})))}
    assert rows["gpt-4o"]["primary_metric"] == ["90.0 (83–94)", "not measured"]
    assert rows["gpt-4o"]["second"][1] == ""
    assert rows["gpt-6-luna"]["primary_metric"] == ["not measured"] * 2
    result = decide(spec, comparison, evidence, parity_passed=True)
    lines = " ".join(line.text for line in page(spec, comparison, result, price_book()).lines)
    assert "gpt-6-luna would cost" not in lines, "it was asked"


def test_a_report_is_written_where_a_split_was_cut(tmp_path: Path) -> None:
    folder = made_report(tmp_path, cut_on="other")
    assert "not measured" in (folder / "report.md").read_text("utf-8")
    assert "not measured" in (folder / "report.html").read_text("utf-8")
