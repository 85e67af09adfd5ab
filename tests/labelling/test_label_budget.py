"""One budget for all runs of `tunewright label`, whatever is added to the file or changed in the spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.responses import JSONResponse

from tests.evaluation.large_model import LargeModel, large_model
from tests.labelling.played import KEY, answer, project, rows_of, teacher, text
from tunewright.config import Spec
from tunewright.labelling.run import label
from tunewright.labelling.summary import summary

pytestmark = pytest.mark.slow

EACH = (100 * 0.1 + 1000 * 0.5) / 1e6
"""What an answer costs."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-of-the-teacher")


@pytest.fixture
def play() -> Iterator[Callable[[], LargeModel]]:
    """Starts teachers whose answers cost a quarter of what is reserved for them."""
    with ExitStack() as stack:

        def started() -> LargeModel:
            played = stack.enter_context(large_model(teacher(1.0)))
            played.usage = {"prompt_tokens": 100, "completion_tokens": 1000}
            return played

        yield started


def write(spec: Spec, *numbers: int) -> None:
    """Put these requests into the file."""
    lines = [json.dumps({"text": text(number)}) for number in numbers]
    (spec.folder / "requests.jsonl").write_text("\n".join(lines), "utf-8")


def test_new_requests_in_front_of_the_others_pass_no_spent_budget(
    play: Callable[[], LargeModel], tmp_path: Path
) -> None:
    played = play()
    spec = project(tmp_path, {"api": played.url}, 200, people=10, budget_usd=0.05)
    first = label(spec)
    asked = len(played.asked)
    assert first.is_spent
    assert 50 < first.asked == asked < 200
    for more in (range(1000, 1200), range(1000, 1400)):
        write(spec, *more, *range(200))
        again = label(spec)
        assert (again.is_spent, again.asked, len(played.asked)) == (True, asked, asked)
        assert again.usd == pytest.approx(first.usd)
    write(spec, *range(200))
    assert label(project(tmp_path, {"api": played.url}, 200, people=10, budget_usd=5)).asked == 200
    assert len(played.asked) == 200


def test_a_larger_sample_passes_no_spent_budget(play: Callable[[], LargeModel], tmp_path: Path) -> None:
    played = play()
    first = label(project(tmp_path, {"api": played.url}, 200, people=10, budget_usd=0.05))
    asked = len(played.asked)
    again = label(project(tmp_path, {"api": played.url}, 200, people=150, budget_usd=0.05))
    assert (again.is_spent, again.sample, len(played.asked)) == (True, 150, asked)
    assert again.usd == pytest.approx(first.usd)


def test_answers_of_some_teachers_count_and_are_not_thrown_away(play: Callable[[], LargeModel], tmp_path: Path) -> None:
    one, two = play(), play()
    apis = {"one": one.url, "two": two.url}
    first = label(project(tmp_path, apis, 300, people=20, rows=120, budget_usd=0.05))
    asked = len(one.asked), len(two.asked)
    assert first.is_spent
    assert asked[0] > asked[1] + 20 >= 40
    again = label(project(tmp_path, apis, 300, people=20, rows=120, budget_usd=0.05))
    assert (len(one.asked), len(two.asked)) == asked
    assert (again.asked, again.usd) == (first.asked, pytest.approx(first.usd))
    whole = label(project(tmp_path, apis, 300, people=20, rows=120, budget_usd=5))
    assert whole.asked == 140
    assert (len(one.asked), len(two.asked)) == (140, 140)


def test_a_new_teacher_has_what_the_first_one_left(play: Callable[[], LargeModel], tmp_path: Path) -> None:
    one, two = play(), play()
    label(project(tmp_path, {"one": one.url}, 300, people=10, budget_usd=5))
    report = label(project(tmp_path, {"one": one.url, "two": two.url}, 300, people=10, budget_usd=0.2))
    assert report.is_spent
    assert 50 < len(two.asked) == report.asked
    assert report.usd == pytest.approx((300 + len(two.asked)) * EACH)
    assert report.usd <= 0.2
    assert len(one.asked) == 300


def test_the_audit_counts_requests_that_teachers_were_asked_about(
    play: Callable[[], LargeModel], tmp_path: Path
) -> None:
    played = play()
    spec = project(tmp_path, {"api": played.url}, 300, people=200, two_people=0, budget_usd=0.05)
    asked = label(spec).asked
    answer(spec)
    report = label(spec)
    assert (report.audit.answered, report.audit.compared["api"], len(played.asked)) == (200, asked, asked)
    assert report.audit.teachers["api"].value == 1.0
    assert sum(each.by_people for each in report.audit.labels) == asked
    assert f"of {asked} requests that people answered" in "\n".join(summary(spec, report))


def test_a_text_that_the_vendor_refuses_has_no_label_and_stops_nothing(
    play: Callable[[], LargeModel], tmp_path: Path
) -> None:
    played = play()
    flagged = {"message": "Invalid prompt.", "type": "invalid_request_error", "param": None, "code": "invalid_prompt"}
    played.refuses = lambda body: (
        JSONResponse({"error": flagged}, 400) if body["messages"][-1]["content"] == text(7) else None
    )
    spec = project(tmp_path, {"api": played.url}, 40, people=0)
    report = label(spec)
    assert (report.asked, report.training) == (40, 39)
    assert text(7) not in {row["text"] for row in rows_of(spec, "train.jsonl").values()}
    label(spec)
    assert len(played.asked) == 40
