"""From requests without answers to a training set with weights and a test set of people's answers."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse
from typer.testing import CliRunner

from tests.conftest import LABELS, make_spec
from tests.evaluation.large_model import LargeModel, large_model
from tests.labelling.played import KEY, answer, project, rows_of, teacher, text, truth
from tunewright.cli.app import command_line
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, read
from tunewright.labelling.requests import read_requests
from tunewright.labelling.run import forecast, label
from tunewright.labelling.summary import summary
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.tables import Capture, Review, label_queue_of
from tunewright.pii import Pseudonymiser, Replacement
from tunewright.review.acts import ReviewChoice, save
from tunewright.tasks import Example

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-of-the-teacher")


@pytest.fixture
def play() -> Iterator[Callable[..., LargeModel]]:
    """Starts teachers."""
    with ExitStack() as stack:
        yield lambda right, name="": stack.enter_context(large_model(teacher(right, name)))


def test_teachers_then_people_make_both_sets(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    good, poor = play(0.95), play(0.8, "poor")
    spec = project(tmp_path, {"good": good.url, "poor": poor.url, "third": play(0.85, "third").url}, 160, people=60)
    first = label(spec)
    assert (first.requests, first.asked, first.test, first.sample) == (160, 160, 0, 60)
    assert not first.weights_by_people
    assert "Nobody knows yet how good these labels are: 60 random requests" in "\n".join(summary(spec, first))
    asked = len(good.asked)
    assert answer(spec, "ann") == 60 + first.disputed
    assert answer(spec, "bob", lambda asked: "refund" if asked.endswith("e") else truth(asked)) == 12
    second = label(spec)
    assert len(good.asked) == asked  # nothing is paid twice
    audit = second.audit
    assert audit.answered == second.test == 60 - sum(each.state == "conflict" for each in captures(spec))
    assert audit.teachers["good"].low <= 0.95 <= audit.teachers["good"].high
    assert audit.teachers["poor"].low <= 0.8 <= audit.teachers["poor"].high
    assert audit.pairs == 12
    train, test = rows_of(spec, "train.jsonl"), rows_of(spec, "test.jsonl")
    assert not train.keys() & test.keys()
    assert all(row["label"] == truth(row["text"]) for row in test.values())
    assert all("call" not in row for row in test.values())
    by_people = [row for row in train.values() if "call" not in row]
    assert len(by_people) == second.by_people == first.disputed
    by_teachers = [row for row in train.values() if "call" in row]
    assert {row["call"]["model"] for row in by_teachers} == {"good + poor + third"}
    right = sum(row["label"] == truth(row["text"]) for row in by_teachers) / len(by_teachers)
    assert right > 0.93


def captures(spec: Spec) -> list[Capture]:
    with closing(open_store(spec)) as store, store.session() as session:
        return list(session.query(Capture).filter_by(model=label_queue_of(spec.name)).all())


def test_people_say_what_one_teachers_labels_are_worth(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    spec = project(tmp_path, {"only": play(0.7).url}, count=300, people=120)
    assert {row["weight"] for row in label(spec) and rows_of(spec, "train.jsonl").values()} == {1.0}
    answer(spec)
    report = label(spec)
    assert report.weights_by_people
    rows = rows_of(spec, "train.jsonl").values()
    right, wrong = (
        [row["weight"] for row in rows if (row["label"] == truth(row["text"])) is is_right]
        for is_right in (True, False)
    )
    assert sum(right) / len(right) > sum(wrong) / len(wrong) + 0.2


def test_the_training_file_is_read_with_its_weights(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    spec = project(
        tmp_path, {"one": play(0.9).url, "two": play(0.9, "two").url, "three": play(0.9, "three").url}, 100, people=20
    )
    report = label(spec)
    examples = [each for each in read(tmp_path / "labels/train.jsonl", columns=Columns()) if isinstance(each, Example)]
    assert len(examples) == report.training
    assert {round(each.weight, 2) for each in examples} == {0.67, 1.0}
    assert all(each.meta.extra["call"]["model"] == "one + two + three" for each in examples)


def test_several_answers_of_one_teacher_tell_how_sure_it_is(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    times = defaultdict[str, "count[int]"](count)
    played.reply = lambda asked: truth(asked) if next(times[asked]) % 4 else LABELS[0]  # once in four is wrong
    spec = project(tmp_path, {"api": played.url}, count=40, people=0, teachers=[{"api": "api", "samples": 4}])
    report = label(spec)
    assert len(played.asked) == 160
    assert {body["temperature"] for body in played.asked} == {0.7}
    assert 0.7 < report.agreement < 1
    assert all(row["label"] == truth(row["text"]) for row in rows_of(spec, "train.jsonl").values())


def test_the_budget_ends_the_asking_and_loses_nothing(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    usd = 0.003
    spec = project(tmp_path, {"api": played.url}, people=10, budget_usd=usd)
    report = label(spec)
    assert report.is_spent
    assert 10 <= report.asked < 300
    assert report.training == report.asked - 10
    assert report.usd <= usd
    assert "label.budget_usd" in "\n".join(summary(spec, report))
    asked = len(played.asked)
    assert asked <= len((tmp_path / "labels" / "asked.txt").read_text().split()) < 300, (
        "the others were not asked about"
    )
    again = label(project(tmp_path, {"api": played.url}, people=10, budget_usd=5))
    assert (again.asked, len(played.asked)) == (300, 300)
    assert asked < 300


def test_a_budget_that_ends_leaves_rows_that_all_teachers_answered(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    one, two = play(1.0), play(1.0, "two")
    apis = {"one": one.url, "two": two.url}
    whole = label(project(tmp_path, apis, count=120, people=10))
    assert whole.asked == 120
    more = project(tmp_path, apis, count=400, people=10, budget_usd=1.7 * whole.usd)
    report = label(more)
    assert report.is_spent
    assert 120 <= report.asked < 400
    assert report.training == report.asked - 10
    assert whole.usd <= report.usd <= 1.7 * whole.usd


def test_a_teacher_that_fails_is_one_paragraph_and_what_was_paid_stays(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, count=60, people=0)
    fine = played.reply

    def fails_later(asked: str) -> str:
        if len(played.asked) >= 30:
            played.always = JSONResponse({"error": {"message": "no", "code": "invalid_api_key"}}, 401)
        return str(fine(asked))

    played.reply = fails_later
    with pytest.raises(UserError, match="does not accept this key"):
        label(spec)
    played.always, played.reply = None, fine
    before = len(played.asked)
    assert label(spec).asked == 60
    assert len(played.asked) - before <= 40


def test_what_teaches_most_is_asked_first(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, count=300, people=20, rows=100)
    report = label(spec)
    assert (report.asked, report.training) == (120, 100)
    assert len(played.asked) == 120
    first = rows_of(spec, "train.jsonl")
    assert label(spec).asked == 120
    assert len(played.asked) == 120
    assert rows_of(spec, "train.jsonl") == first
    assert label(project(tmp_path, {"api": played.url}, count=310, people=20, rows=100)).asked == 120
    assert len(played.asked) == 120
    assert rows_of(spec, "train.jsonl") == first


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts in which personal data were looked for; none has any."""
    looked: list[str] = []

    def look(_: Pseudonymiser, asked: str) -> tuple[str, list[Replacement]]:
        looked.append(asked)
        return asked, []

    monkeypatch.setattr(Pseudonymiser, "replaced", look)
    return looked


def test_personal_data_are_looked_for_only_where_teachers_are_or_were_asked(
    play: Callable[..., LargeModel], tmp_path: Path, looked: list[str]
) -> None:
    spec = project(tmp_path, {"api": play(1.0).url}, count=300, people=20, rows=50)
    forecast(spec)
    assert not looked
    label(spec)
    assert len(set(looked)) == len(looked) == 70
    with (tmp_path / "labels" / "asked.txt").open("a") as file:
        file.write("cut off")
    label(spec)
    forecast(spec)
    assert len(set(looked)) == 70


def test_a_spent_budget_ends_the_look_for_personal_data(
    play: Callable[..., LargeModel], tmp_path: Path, looked: list[str]
) -> None:
    spec = project(tmp_path, {"api": play(1.0).url}, count=300, people=10, budget_usd=0.003)
    assert label(spec).is_spent
    assert 10 <= len(looked) == len((tmp_path / "labels" / "asked.txt").read_text().split()) < 300


def test_the_sample_stays_where_requests_are_added(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, count=100, people=20)
    label(spec)
    answer(spec)
    label(spec)
    before = rows_of(spec, "test.jsonl")
    spec = project(tmp_path, {"api": played.url}, count=150, people=30)
    report = label(spec)
    assert (report.sample, report.test) == (30, 20)
    assert rows_of(spec, "test.jsonl") == before


def test_what_people_said_stays_where_the_file_changes_and_what_they_took_back_goes(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    apis = {"api": play(1.0).url}
    spec = project(tmp_path, apis, count=60, people=20, two_people=0)
    label(spec)
    answer(spec)
    assert label(spec).test == 20
    (tmp_path / "requests.jsonl").write_text(json.dumps({"text": text(999)}), "utf-8")
    assert label(spec).test == 0
    assert {len(rows_of(spec, name)) for name in ("people.jsonl",)} == {20}
    spec = project(tmp_path, apis, count=60, people=20, two_people=0)
    assert label(spec).test == 20
    with closing(open_store(spec)) as store, store.session() as session:
        for review in session.query(Review).limit(5).all():
            review.undone = review.time
        session.commit()
    assert label(spec).test == 15


def test_people_are_asked_again_where_their_label_has_another_name(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    played = play(1.0)
    apis = {"api": played.url}
    spec = project(tmp_path, apis, count=60, people=30, two_people=0)
    label(spec)
    answer(spec)
    before = label(spec)
    assert (before.test, before.outdated) == (30, {})
    former = [text for text in (row["text"] for row in rows_of(spec, "test.jsonl").values()) if truth(text) == "refund"]
    old, played.reply = played.reply, lambda asked: f"{truth(asked)}s" if truth(asked) == "refund" else truth(asked)
    task = {**spec.task.model_dump(), "labels": ["billing", "defect", "refunds"]}
    renamed = project(tmp_path, apis, count=60, people=30, two_people=0, task=task)
    report = label(renamed)
    assert report.outdated == {"'refund' is none of the labels": len(former)}
    assert (report.test, report.waiting) == (30 - len(former), len(former))
    assert report.audit.together and report.audit.together.value == 1
    assert "refund" not in {row["label"] for row in rows_of(spec, "test.jsonl").values()}
    assert f"People's answers to {len(former)} of the requests do not fit" in "\n".join(summary(renamed, report))
    assert {each.request for each in captures(spec) if each.state == "conflict"} == set(former)
    played.reply = old
    assert label(spec).test == 30, "with its old name they count again"
    assert not [each for each in captures(spec) if each.state == "conflict"]
    label(renamed)
    with closing(open_store(spec)) as store, store.session() as session:
        again = [each.id for each in captures(spec) if each.state == "conflict"]
        saved = save(
            session, again, label_queue_of(spec.name), "ann", ReviewChoice("refunds"), source="settle", wanted=1
        )
    assert saved.count == len(former)
    last = label(renamed)
    assert (last.test, last.outdated) == (30, {})


def test_people_who_differ_make_no_test_row_until_somebody_settles(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    spec = project(tmp_path, {"api": play(1.0).url}, count=60, people=20, two_people=1.0)
    label(spec)
    answer(spec, "ann")
    assert label(spec).test == 20  # one word is enough until there is another
    answer(spec, "bob", lambda _: LABELS[0])
    report = label(spec)
    assert report.test == sum(truth(row["text"]) == LABELS[0] for row in rows_of(spec, "sample.jsonl").values())
    assert report.unsettled == 20 - report.test
    assert "People differ" in "\n".join(summary(spec, report))
    assert report.audit.people_agree
    assert report.audit.people_agree.value == pytest.approx(report.test / 20)


def test_the_command_tells_the_cost_before_it_asks(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, count=50, people=10)
    (found,), personal = forecast(spec)
    assert (found.questions, found.kept, played.asked, personal) == (50, 0, [], 0)
    label(spec)
    (found,), _ = forecast(spec)
    assert (found.kept, found.usd) == (50, 0)


def test_as_json_the_command_tells_the_budget_and_the_personal_data_too(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    spec = project(tmp_path, {"api": play(1.0).url}, count=50, people=10)
    (tmp_path / "tunewright.yaml").write_text(spec.model_dump_json(exclude_unset=True), "utf-8")
    shown = json.loads(CliRunner().invoke(command_line(), ["label", str(tmp_path), "--dry-run", "--json"]).stdout)
    assert ([each["questions"] for each in shown["apis"]], shown["budget_usd"], shown["personal_share"]) == ([50], 5, 0)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ('{"question": "hello"}', "has no text"),
        ('{"text": "hello", "label": "billing"}', "has an answer already"),
        ('{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]}', "an answer"),
    ],
)
def test_a_file_without_requests_is_one_paragraph(
    lines: str, what: str, play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    spec = project(tmp_path, {"api": play(1.0).url})
    (tmp_path / "requests.jsonl").write_text(lines, "utf-8")
    with pytest.raises(UserError, match="No row is a request") as told:
        label(spec)
    assert what in told.value.paragraph()


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"label": "weight"}, "data.label"),
        ({"label": {"name": "name", "weight": "weight"}}, "data.label"),
        ({"label": "call"}, "data.label"),
        ({"text": "weight"}, "data.text"),
        ({"group": "call"}, "data.group"),
        ({"time": "weight"}, "data.time"),
    ],
)
def test_a_column_of_the_name_of_what_labels_carry_is_refused_before_anything_is_asked(
    data: dict[str, Any], where: str, play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    """Both would stand in one row, where one overwrites the other."""
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, people=0)
    spec.data = spec.data.model_copy(update=data)
    for command in (label, forecast):
        with pytest.raises(UserError, match=f"^{where}: .*(weight|call)"):
            command(spec)
    assert played.asked == []


def test_conversations_are_asked_with_their_earlier_turns(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    played = play(1.0)
    spec = project(tmp_path, {"api": played.url}, people=0)
    spec.task.earlier_turns = 2
    turns = [("user", text(0)), ("assistant", "Yes?"), ("user", "Help")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (tmp_path / "requests.jsonl").write_text(json.dumps(row), "utf-8")
    label(spec)
    assert played.asked[0]["messages"][-1]["content"] == f"user: {text(0)}\n\nassistant: Yes?\n\nuser: Help"


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([("user", [{"type": "text", "text": "Help"}])], "Help"),
        ([("user", "Hi"), ("user", "Help")], "Hi\n\nHelp"),
        ([("human", "Help")], None),
        ([("system", "Be brief."), ("user", "Help")], "Help"),
        ([("user", "Help"), ("assistant", "Yes?")], None),
        ([("system", "Be brief.")], None),
        ([("user", {"a": 1})], None),
        ("Help", None),
        ([], None),
    ],
)
def test_requests_are_read_as_conversations_are(messages: Any, asked: str | None, tmp_path: Path) -> None:
    rows = messages
    if isinstance(messages, list):
        rows = [{"role": role, "content": content} for role, content in messages]
    lines = [{"messages": rows}, {"text": "another"}]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    found = read_requests(make_spec(tmp_path), tmp_path / "requests.jsonl")
    assert [row.text for row in found.rows] == [*([asked] if asked else []), "another"]
    assert sum(found.left_out.values()) == (asked is None)


def test_a_spec_without_teachers_or_requests_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "tunewright.yaml").write_text(
        "name: x\ntask: {kind: classify, instruction: Route, labels: [a, b]}\ndata: {train: labels/train.jsonl}\n"
    )
    shown = CliRunner().invoke(command_line(), ["label", str(tmp_path)])
    assert "label: {requests: requests.jsonl}" in str(shown.exception.paragraph())


RECORDS = {
    "kind": "extract",
    "instruction": "Fill in the fields.",
    "schema": {
        "type": "object",
        "properties": {"mail": {"type": "string"}, "name": {"type": "string"}, "what": {"type": "string"}},
    },
}
LETTER = "Refund please. My name is Anna Schmidt, write to anna.schmidt@example.org"


def copied(asked: str) -> str:
    """What a teacher that reads well says about the letter."""
    name = re.search(r"My name is (\w+ \w+),", asked)
    mail = re.search(r"\S+@\S+", asked)
    assert name
    assert mail
    return json.dumps({"mail": mail[0], "name": name[1].split()[-1], "what": "Refund"})


def test_teachers_read_stand_ins_and_answers_get_the_values_back(
    play: Callable[..., LargeModel], tmp_path: Path
) -> None:
    played = play(1.0)
    played.reply = copied
    spec = project(tmp_path, {"api": played.url}, count=0, people=0, task=RECORDS)
    (tmp_path / "requests.jsonl").write_text(json.dumps({"text": LETTER}))
    assert forecast(spec)[1] == 1
    report = label(spec)
    assert (report.asked, report.pseudonymised) == (1, 1)
    sent = json.dumps(played.asked)
    assert not re.search(r"\b(anna|schmidt)\b|example\.org", sent, re.IGNORECASE)
    (row,) = rows_of(spec, "train.jsonl").values()
    assert row["text"] == LETTER
    assert row["label"] == {"mail": "anna.schmidt@example.org", "name": "Schmidt", "what": "Refund"}
    assert (tmp_path / "labels/stand-ins.key").stat().st_mode & 0o777 == 0o600
    assert "In 1 of them teachers read stand-ins" in "\n".join(summary(spec, report))
    label(spec)
    assert len(played.asked) == 1  # the same stand-ins, so nothing is paid twice
    assert spec.label
    plain = spec.model_copy(update={"label": spec.label.model_copy(update={"pseudonymise": False})})
    assert label(plain).pseudonymised == 0
    assert "anna.schmidt@example.org" in json.dumps(played.asked[-1])


def test_a_teacher_is_named_once(play: Callable[..., LargeModel], tmp_path: Path) -> None:
    spec = project(
        tmp_path, {"api": play(1.0).url}, 10, people=0, teachers=[{"api": "api"}, {"api": "api", "samples": 3}]
    )
    with pytest.raises(UserError, match="'api' is named twice"):
        label(spec)
