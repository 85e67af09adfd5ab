"""Leaving rows out, with a real server on this machine that plays a judge who knows which answers are bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse

from tests.conftest import make_spec
from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.job import columns_in
from tunewright.data.readers import read
from tunewright.economics import price_book
from tunewright.evaluation.api import endpoint
from tunewright.evaluation.marks import filtering
from tunewright.evaluation.marks.filtering import JudgedData, leave_out, marking_forecast
from tunewright.tasks import Example

pytestmark = pytest.mark.slow


def by_word(message: str) -> str:
    """The mark that an answer names, so that each test knows what the judge says."""
    answer: str = json.loads(message)["answer"]
    return next((str(mark) for mark in (1, 2, 3, 4, 5) if f"<{mark}>" in answer), "no mark")


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(by_word) as large:
        yield large


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    monkeypatch.setattr(endpoint, "_RETRIES", 2)


ROWS: list[dict[str, Any]] = [
    {"text": f"request {n}", "label": f"answer {n} <{mark}>", "customer": n}
    for n, mark in enumerate((5, 5, 4, 1, 3, 2, 4, 5, 5, 4))
]


def project(large: LargeModel, folder: Path, rows: list[dict[str, Any]] = ROWS, **judge: Any) -> Spec:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = {"model": "large", "url": large.url, "key": "JUDGE_KEY", "priced_as": "gpt-4o", **judge}
    task = {"kind": "generate", "instruction": "Answer this customer."}
    data = {"train": "train.jsonl", "test": {"test": "test.jsonl"}}
    return make_spec(folder, judge=settings, task=task, data=data)


def judged(spec: Spec, **options: Any) -> JudgedData:
    found, refusal = leave_out(spec, spec.folder / "runs", spec.folder / "judged", **options)
    if refusal:
        raise refusal
    return found


def examples(spec: Spec, file: Path) -> list[Example]:
    items = list(read(file, columns=columns_in(spec)))
    return [item for item in items if isinstance(item, Example)]


def peoples(folder: Path, marks: list[tuple[str, int]]) -> str:
    rows = [{"text": "request", "answer": f"answer {n} {said}", "mark": mark} for n, (said, mark) in enumerate(marks)]
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return "people.jsonl"


def test_rows_below_the_mark_have_no_weight_in_the_copy(model: LargeModel, tmp_path: Path) -> None:
    spec = project(model, tmp_path)
    before = (tmp_path / "train.jsonl").read_bytes()
    found = judged(spec)
    assert (found.rows, found.left_out, found.unread) == (10, 2, 0)
    assert found.marks == {1: 1, 2: 1, 3: 1, 4: 3, 5: 4}
    assert [(row.mark, row.where) for row in found.worst[:2]] == [(1, "train.jsonl:4"), (2, "train.jsonl:6")]
    assert (tmp_path / "train.jsonl").read_bytes() == before
    old, new = examples(spec, tmp_path / "train.jsonl"), examples(spec, tmp_path / "judged" / "train.jsonl")
    assert [each.weight for each in new] == [1, 1, 1, 0, 1, 0, 1, 1, 1, 1]
    assert [(a.request, a.answer, a.meta.extra) for a in old] == [(b.request, b.answer, b.meta.extra) for b in new]
    marks = read_jsonl(tmp_path / "judged" / "marks.jsonl")
    assert [row["mark"] for row in marks] == [5, 5, 4, 1, 3, 2, 4, 5, 5, 4]
    assert [row["left_out"] for row in marks] == [row["mark"] < 3 for row in marks]
    assert json.loads((tmp_path / "judged" / "judged.json").read_text("utf-8"))["left_out"] == 2
    assert "Nobody has checked" in found.told[0]
    assert len(read_jsonl(tmp_path / "judged" / "to_mark.jsonl")) == 10
    assert found.usd == pytest.approx(10 * price_book().api("gpt-4o").usd(50, 1))


def test_marks_that_people_filled_in_are_kept(model: LargeModel, tmp_path: Path) -> None:
    spec = project(model, tmp_path)
    _, refusal = leave_out(spec, tmp_path / "runs", tmp_path / "judged", most=0.0)
    assert refusal
    file = tmp_path / "judged" / "to_mark.jsonl"
    rows = read_jsonl(file)
    file.write_text("".join(json.dumps(row | {"mark": 4}) + "\n" for row in rows), "utf-8")
    filled = file.read_bytes()
    leave_out(spec, tmp_path / "runs", tmp_path / "judged", most=0.0)
    assert file.read_bytes() == filled
    leave_out(
        project(model, tmp_path, human_marks="judged/to_mark.jsonl"),
        tmp_path / "runs",
        tmp_path / "judged",
        unproven=True,
    )
    assert file.read_bytes() == filled


def test_the_mark_decides_which(model: LargeModel, tmp_path: Path) -> None:
    assert judged(project(model, tmp_path, least_mark=2)).left_out == 1
    assert leave_out(project(model, tmp_path, least_mark=4), tmp_path / "runs", tmp_path / "other")[0].left_out == 3
    assert len(model.asked) == 10, "another mark is no other question"


def test_the_judge_reads_what_the_model_will(model: LargeModel, tmp_path: Path) -> None:
    turns = [("user", "first"), ("assistant", "said"), ("user", "second"), ("assistant", "<5>")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    for most, seen in ((0, "second"), (2, "user: first\n\nassistant: said\n\nuser: second")):
        spec = project(model, tmp_path, rows)
        spec.task.earlier_turns = most
        leave_out(spec, tmp_path / "runs", tmp_path / f"turns{most}")
        material = json.loads(model.asked[-1]["messages"][-1]["content"])
        assert material == {"task": "Answer this customer.", "request": seen, "answer": "<5>"}


def test_nothing_is_paid_twice_and_equal_rows_are_asked_once(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "_AT_ONCE", 4)
    spec = project(model, tmp_path, [*ROWS, *ROWS])
    found = judged(spec)
    assert (found.rows, found.left_out, len(model.asked)) == (20, 4, 10)
    model.always = PlainTextResponse("no more", 500)
    again, _ = leave_out(spec, tmp_path / "runs", tmp_path / "again")
    assert again == found
    assert (tmp_path / "again" / "train.jsonl").read_bytes() == (tmp_path / "judged" / "train.jsonl").read_bytes()


def test_it_goes_on_where_the_budget_stopped_it(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    price = price_book().api("gpt-4o")
    dearest, each = price.usd(3000, 4000), price.usd(1000, 100)
    with pytest.raises(UserError, match=r"judge\.budget_usd.*Allow more: judge\.budget_usd=…; then") as stopped:
        judged(project(model, tmp_path, budget_usd=dearest + 3 * each))
    assert "baseline" not in str(stopped.value)
    assert not (tmp_path / "judged").exists()
    assert not list(tmp_path.glob(".judged*"))
    before = len(model.asked)
    assert 0 < before < 10
    assert judged(project(model, tmp_path, budget_usd=5)).left_out == 2
    assert len(model.asked) == 10


def test_faults_of_the_endpoint_cost_no_row(model: LargeModel, tmp_path: Path) -> None:
    model.failures = [
        PlainTextResponse("slow down", 429, {"Retry-After": "0"}),
        PlainTextResponse("oops", 500),
        PlainTextResponse('{"id": "1", "cho', 200, media_type="application/json"),
    ]
    found = judged(project(model, tmp_path))
    assert (found.left_out, found.unread) == (2, 0)
    assert len(model.asked) == 13


def test_a_row_that_is_too_long_for_the_judge_stops_nothing(model: LargeModel, tmp_path: Path) -> None:
    detail = {"message": "This model reads 8192 tokens", "param": "messages", "code": "context_length_exceeded"}
    model.failures = [JSONResponse({"error": detail}, 400)]
    found = judged(project(model, tmp_path))
    assert (found.rows, found.unread) == (10, 1)


def test_a_call_of_a_tool_is_marked_as_one(model: LargeModel, tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "track", "arguments": '{"parcel": "<2>"}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    chat = [{"role": "user", "content": "r"}]
    rows = [{"messages": [*chat, answer]}, {"messages": [*chat, {"role": "assistant", "content": "a <5>"}]}]
    assert judged(project(model, tmp_path, rows)).left_out == 1
    answers = {json.loads(body["messages"][-1]["content"])["answer"] for body in model.asked}
    assert answers == {'track({"parcel": "<2>"})', "a <5>"}


def test_a_mark_that_thinking_cut_off_is_asked_for_with_more_room(model: LargeModel, tmp_path: Path) -> None:
    model.thinks = lambda body: 6000 if "answer 3 " in body["messages"][-1]["content"] else 10
    assert judged(project(model, tmp_path)).marks[1] == 1
    assert len(model.asked) == 11
    assert model.asked[-1]["max_completion_tokens"] > 6000


def test_a_row_without_a_mark_stays(model: LargeModel, tmp_path: Path) -> None:
    refusal = {"message": {"role": "assistant", "content": None, "refusal": "no"}}
    rows = [*ROWS, {"text": "r", "label": "nothing to read"}, {"text": "r", "label": "refused <1>"}]
    model.reply = lambda message: refusal if "refused" in message else by_word(message)
    spec = project(model, tmp_path, rows)
    found = judged(spec)
    assert (found.left_out, found.unread) == (2, 2)
    assert [each.weight for each in examples(spec, tmp_path / "judged" / "train.jsonl")[-2:]] == [1, 1]


def test_a_judge_without_a_single_mark_ends_at_once(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "_AT_ONCE", 4)
    model.reply = lambda _: "It is a very good answer."
    with pytest.raises(UserError, match="None of the judge's replies is a mark"):
        judged(project(model, tmp_path))
    assert len(model.asked) == 4
    assert not (tmp_path / "judged").exists()


def test_rows_that_do_not_count_or_can_not_be_read_are_not_asked(model: LargeModel, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "r"}, {"role": "assistant", "content": "a <5>"}]
    rows = [
        {"messages": chat},
        {"messages": [*chat[:1], {**chat[1], "content": "b <1>"}], "weight": 0},
        {"messages": 7},
    ]
    spec = project(model, tmp_path, rows)
    found = judged(spec)
    assert (found.rows, found.unreadable, len(model.asked)) == (1, 1, 1)
    assert [each.weight for each in examples(spec, tmp_path / "judged" / "train.jsonl")] == [1, 0]
    (refused,) = read_jsonl(tmp_path / "judged" / "quarantine" / "train.jsonl")
    assert refused["where"].endswith("train.jsonl:3")


def test_a_filter_that_takes_more_than_half_is_refused_and_the_marks_stay(model: LargeModel, tmp_path: Path) -> None:
    spec = project(model, tmp_path, least_mark=5)
    with pytest.raises(UserError, match=r"60% of the rows, more than 50%.*marks.*--max-left-out 0\.61"):
        judged(spec)
    assert len(read_jsonl(tmp_path / "judged" / "marks.jsonl")) == 10
    assert not (tmp_path / "judged" / "train.jsonl").exists()
    assert judged(spec, most=0.61).left_out == 6
    assert (tmp_path / "judged" / "train.jsonl").exists()


def test_a_filter_that_takes_all_is_refused_whatever_the_options(model: LargeModel, tmp_path: Path) -> None:
    model.reply = lambda _: "1"
    with pytest.raises(UserError, match="every row"):
        judged(project(model, tmp_path), most=1.0)


def test_an_earlier_copy_and_files_of_others_are_left_alone(model: LargeModel, tmp_path: Path) -> None:
    spec = project(model, tmp_path)
    judged(spec)
    asked, copy = len(model.asked), (tmp_path / "judged" / "train.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"isn't empty.*--out"):
        judged(spec)
    assert (tmp_path / "judged" / "train.jsonl").read_bytes() == copy
    assert len(model.asked) == asked
    with pytest.raises(UserError, match="is a file"):
        leave_out(spec, tmp_path / "runs", tmp_path / "train.jsonl")


def test_people_say_how_far_to_trust_it(model: LargeModel, tmp_path: Path) -> None:
    marks = [("<5>", 5)] * 20 + [("<1>", 1)] * 9 + [("<4>", 2), ("<2>", 4)]
    found = judged(project(model, tmp_path, human_marks=peoples(tmp_path, marks)))
    assert found.agreement
    assert found.agreement.beyond_chance
    assert found.agreement.below == 10
    assert "Of 10 answers that people put below 3, the judge keeps 10%" in " ".join(found.told)
    assert not (tmp_path / "judged" / "to_mark.jsonl").exists()


def test_a_judge_that_knows_no_better_than_chance_is_refused_before_the_rows_are_paid(
    model: LargeModel, tmp_path: Path
) -> None:
    marks = [("<5>", 5), ("<1>", 5), ("<5>", 1), ("<1>", 1)] * 10
    spec = project(model, tmp_path, human_marks=peoples(tmp_path, marks))
    with pytest.raises(UserError, match=r"people\.jsonl.*no more than by chance.*keeps 50%.*--unproven"):
        judged(spec)
    assert len(model.asked) == 40
    assert not (tmp_path / "judged").exists()
    assert judged(spec, unproven=True).left_out == 2


def test_a_log_keeps_its_calls_and_tells_the_judges_family(model: LargeModel, tmp_path: Path) -> None:
    rows = [
        {
            "request": {"model": writer, "messages": [{"role": "user", "content": f"request {n}"}]},
            "response": {
                "model": writer,
                "choices": [
                    {
                        "message": {"role": "assistant", "content": f"answer <{mark}>"},
                        "finish_reason": "stop",
                        "index": 0,
                    }
                ],
            },
        }
        for n, (writer, mark) in enumerate([("gpt-4o", 5), ("gpt-4o", 5), ("claude-haiku-4-5", 4), ("gpt-4o", 2)])
    ]
    spec = project(model, tmp_path, rows, model="gpt-4o")
    found = judged(spec)
    assert found.left_out == 1
    assert any("3 answers were written by the judge's own family, gpt" in said for said in found.told)
    old, new = examples(spec, tmp_path / "train.jsonl"), examples(spec, tmp_path / "judged" / "train.jsonl")
    assert [each.weight for each in new] == [1, 1, 1, 0]
    assert [each.meta.extra for each in new] == [each.meta.extra for each in old]


def test_a_test_drawn_from_the_rows_is_warned_of(model: LargeModel, tmp_path: Path) -> None:
    spec = project(model, tmp_path)
    assert not any("data freeze" in said for said in judged(spec).told)
    spec.data.test = {}
    found, _ = leave_out(spec, tmp_path / "runs", tmp_path / "other")
    assert "tunewright data freeze" in found.told[-1]


def test_the_forecast_asks_nothing_and_knows_what_is_paid(
    model: LargeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, ROWS[0], {"text": "I am jane.doe@corp.test", "label": "<4>"}]
    spec = project(model, tmp_path, rows, human_marks=peoples(tmp_path, [("<5>", 5)]))
    found = marking_forecast(spec, tmp_path / "runs")
    assert (found.questions, found.kept, found.personal) == (12, 0, 1)
    assert found.usd == pytest.approx(price_book().api("gpt-4o").usd(found.prompt_tokens, 12))
    assert not model.asked
    judged(spec)
    assert "12 rows to large" in (said := capsys.readouterr().err)
    assert "1 of them hold personal data (D015)" in said
    left = marking_forecast(spec, tmp_path / "runs")
    assert (left.questions, left.kept, left.prompt_tokens, left.usd) == (12, 12, 0, 0)


def test_a_spec_without_a_judge_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names no judge.*judge:"):
        leave_out(make_spec(tmp_path), tmp_path / "runs", tmp_path / "judged")
