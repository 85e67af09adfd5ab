"""A job that was found in traffic becomes a project that can be checked and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faker import Faker
from typer.testing import CliRunner, Result

from tests.traffic.test_grouping import chat, short_to_french, with_a_template
from tests.traffic.test_jobs import LABELS, Traffic
from tunewright.cli.app import command_line
from tunewright.config import load_spec
from tunewright.core.errors import UserError
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs.signature import read_signature
from tunewright.traffic.jobs import find_jobs

app = command_line()

SYSTEM = "Which team answers this message? Answer with its name: billing, delivery or account."


def routed(fake: Faker, _: Any) -> dict[str, Any]:
    return chat(("system", SYSTEM), ("user", str(fake.paragraph(nb_sentences=2))))


def as_record(fake: Faker, _: Any) -> dict[str, Any]:
    return chat(("user", f"Read this order and give it as JSON with the keys total and city.\n\n{fake.paragraph()}"))


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    traffic = Traffic(tmp_path / "captures")
    traffic.add(routed, 120)
    traffic.add(routed, 1, AnswerChoice("I can't tell."))
    traffic.add(as_record, 60, AnswerChoice('{"total": 3.5, "city": "Oslo"}'))
    traffic.add(short_to_french, 60, AnswerChoice("Bonjour tout le monde"))
    traffic.add(with_a_template, 15)
    tools = [{"function": {"name": "save"}}, {"function": {"name": "send"}}]
    for name in ("save", "send"):
        called = AnswerChoice("", tool_calls=[{"name": name, "arguments": "{}"}])
        traffic.add(lambda fake, _: chat(("user", fake.sentence()), tools=tools), 15, called)
    called = AnswerChoice("", tool_calls=[{"name": "book", "arguments": '{"total": 3, "city": "Oslo"}'}])
    traffic.add(lambda fake, _: chat(("user", fake.sentence()), tools=[{"function": {"name": "book"}}]), 40, called)
    traffic.close()
    return tmp_path / "captures"


def made(captures: Path, job: str, *more: str) -> Result:
    return CliRunner().invoke(
        app,
        ["init", str(captures), "--from-traffic", job, "--out", str(captures.parent / "made"), *more],
        catch_exceptions=False,
    )


@pytest.mark.slow
def test_a_job_of_more_requests_than_are_looked_at_gives_them_all(
    captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.traffic.jobs.DRAWN", 50)
    made(captures, name_of(captures, "which-team"))
    rows = (captures.parent / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 120


@pytest.mark.slow
def test_what_is_kept_of_traffic_is_bounded_by_its_letters_and_not_by_its_requests_alone(
    captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_jobs(captures)
    most = sum(len(text) for job in whole.jobs for prompt in job.prompts for _, text in prompt.messages) // 10
    monkeypatch.setattr("tunewright.traffic.jobs._ROOM", most)
    report = find_jobs(captures)
    kept = sum(len(text) for job in report.jobs for prompt in job.prompts for _, text in prompt.messages)
    assert 0 < kept <= most
    assert [(job.requests, job.usd) for job in report.jobs] == [(job.requests, job.usd) for job in whole.jobs]


def name_of(captures: Path, beginning: str) -> str:
    (name,) = [job.name for job in find_jobs(captures).jobs if job.name.startswith(beginning)]
    return name


@pytest.mark.slow
def test_a_job_of_labels_becomes_a_project(captures: Path) -> None:
    shown = made(captures, name_of(captures, "which-team")).stdout
    assert "classify, 120 captured requests, 3 labels" in shown
    assert "right means what the API said" in shown
    assert (
        "The API took 50% of their prompts from its cache; `tunewright assess` and the verdict price them so" in shown
    )
    folder = captures.parent / "made"
    rows = [json.loads(line) for line in (folder / "data" / "train.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 120
    assert {row["label"] for row in rows} == set(LABELS)
    assert not [row for row in rows if "Which team" in row["text"]]
    assert {row["call"]["model"] for row in rows} == {"gpt-6-luna"}
    assert all(row["call"]["time"] and row["call"]["seconds"] > 0 for row in rows)
    counted = {"prompt_tokens": 100, "answer_tokens": 2, "cached_tokens": 50}
    assert all(row["call"]["usage"] == counted for row in rows)
    spec = load_spec(folder)
    assert (spec.api.model, spec.api.prompt_tokens, spec.api.completion_tokens) == ("gpt-6-luna", None, None)
    assert "100 tokens in (50 from the API's cache) and 2 out" in " ".join(
        CliRunner().invoke(app, ["assess", str(folder)], catch_exceptions=False).stdout.split()
    )
    assert spec.api.prompt == SYSTEM
    assert spec.api.recorded and spec.api.measured
    assert spec.traffic.requests_per_month > 120
    checked = CliRunner().invoke(app, ["data", "check", str(folder)], catch_exceptions=False)
    assert checked.exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "answered", "model"),
    [
        ("gpt-4o-2024-08-06", None, "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"),
        ("tickets-prod", "gpt-6-luna", "gpt-6-luna"),
        ("gpt-6-luna", "gpt-6-luna", "gpt-6-luna"),
        ("gpt-4o", "gpt-6-luna", "gpt-6-luna"),  # a deployment that keeps the name of its former model
    ],
)
def test_todays_api_is_named_as_the_price_book_names_it(
    tmp_path: Path, asked: str, answered: str | None, model: str
) -> None:
    traffic = Traffic(tmp_path / "captures")
    traffic.add(routed, 60, model=asked, answered_model=answered)
    traffic.close()
    made(tmp_path / "captures", name_of(tmp_path / "captures", "which-team"))
    spec = load_spec(tmp_path / "made")
    assert (spec.api.model, spec.api.deployment) == (model, asked if asked != model else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimated", "counted", "named", "in_rows"),
    [(0, 60, (None, None), 60), (60, 0, (100, 2), 0), (0, 0, (None, None), 0)],
)
def test_answers_without_token_counts_do_not_make_todays_api_cheap(
    tmp_path: Path, estimated: int, counted: int, named: tuple[int | None, int | None], in_rows: int
) -> None:
    """What the gateway estimated stands in the spec, because no API counted it."""
    traffic = Traffic(tmp_path / "captures")
    traffic.add(routed, estimated, usage_is_estimated=True)
    traffic.add(routed, counted)
    traffic.add(routed, 60, usage=None, usd=None)
    traffic.close()
    shown = made(tmp_path / "captures", name_of(tmp_path / "captures", "which-team")).stdout
    spec = load_spec(tmp_path / "made")
    assert (spec.api.prompt_tokens, spec.api.completion_tokens) == named
    rows = [json.loads(line) for line in (tmp_path / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()]
    assert sum("usage" in row["call"] for row in rows) == in_rows
    assert ("as the gateway estimates" in shown) == bool(estimated)


@pytest.mark.slow
def test_jobs_of_records_and_texts_become_projects(captures: Path) -> None:
    assert "extract, 60 captured requests" in made(captures, name_of(captures, "read-this-order")).stdout
    spec = load_spec(captures.parent / "made")
    assert spec.task.kind == "extract"
    shown = CliRunner().invoke(
        app,
        ["init", str(captures), "--from-traffic", name_of(captures, "translate"), "--out", str(captures.parent / "t")],
        catch_exceptions=False,
    )
    assert "generate, 60 captured requests" in shown.stdout


UNFIT: list[tuple[str, dict[str, Any]]] = [
    ("cut-answer", {"choices": [AnswerChoice("bill", finish_reason="length")]}),
    ("cut-answer", {"choices": [AnswerChoice("billing", finish_reason="content_filter")]}),
    ("cut-answer", {"choices": [AnswerChoice("billing", finish_reason="incomplete")]}),
    ("cut-answer", {"choices": [AnswerChoice("billing")], "ending": "left"}),
    ("refusal", {"choices": [AnswerChoice("billing", refusal="I can't help with that.")]}),
    ("empty-answer", {"choices": [AnswerChoice(" ")]}),
    ("no-answer", {"choices": [AnswerChoice("billing")], "is_whole": False}),
    ("own-answer", {"choices": [AnswerChoice("billing")], "answered_by": "own"}),
    ("failed", {"choices": [AnswerChoice("billing")], "status": 500}),
]


@pytest.mark.parametrize(("code", "fields"), UNFIT)
def test_answers_that_cant_be_learnt_from_are_left_out_and_told(
    code: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    traffic = Traffic(tmp_path / "captures")
    traffic.add(routed, 30)
    traffic.add(routed, 5, **fields)
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    assert (job.requests, job.left_out, len(job.drawn)) == (35, {code: 5}, 30)
    shown = made(tmp_path / "captures", job.name).stdout
    assert "classify, 30 captured requests" in shown
    assert f"5 were left out, because their answers can't be learnt from: {code} (5)." in shown
    rows = (tmp_path / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 30


def test_turns_whose_beginning_the_api_keeps_are_left_out(tmp_path: Path) -> None:
    def responded(fake: Faker, _: Any) -> dict[str, Any]:
        return {"instructions": SYSTEM, "input": fake.paragraph(nb_sentences=2)}

    traffic = Traffic(tmp_path / "captures")
    traffic.add(responded, 30, kind="responses")
    traffic.add(lambda *some: responded(*some) | {"previous_response_id": "resp_1"}, 6, kind="responses")
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    assert (job.requests, job.left_out, len(job.drawn)) == (36, {"partial": 6}, 30)
    assert job.usd == pytest.approx(0.036)


def test_a_job_without_an_answer_to_learn_from_has_a_prompt_and_no_project(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    traffic.add(routed, 30, AnswerChoice("bill", finish_reason="length"))
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    assert (job.system, job.form.kind, job.drawn) == (SYSTEM, "unknown", [])
    assert job.name.startswith("which-team")
    with pytest.raises(UserError, match="its answers are unknown"):
        made(tmp_path / "captures", job.name)


def test_a_record_of_one_label_is_a_label(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"team": {}}}}}
    for label in LABELS:
        answer = AnswerChoice(json.dumps({"team": label}))
        traffic.add(lambda fake, _: chat(("user", fake.sentence()), response_format=form), 30, answer)
    traffic.close()
    assert (
        "classify, 90 captured requests, 3 labels"
        in made(tmp_path / "captures", name_of(tmp_path / "captures", "")).stdout
    )
    signature = read_signature(tmp_path / "made")
    assert (signature.answer, signature.key) == ("label", "team")
    rows = (tmp_path / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(row)["label"] for row in rows} == set(LABELS)


@pytest.mark.parametrize(
    ("key", "values", "kind"), [("spam", [True, False], "boolean"), ("priority", [1, 2, 3], "integer")]
)
def test_a_record_of_one_number_or_truth_value_is_a_record(
    tmp_path: Path, key: str, values: list[Any], kind: str
) -> None:
    traffic = Traffic(tmp_path / "captures")
    for value in values:
        ask = f"Read this message and give {key} as JSON.\n\n"
        answer = AnswerChoice(json.dumps({key: value}))
        traffic.add(lambda fake, _, ask=ask: chat(("user", f"{ask}{fake.paragraph()}")), 30, answer)
    traffic.close()
    count = 30 * len(values)
    shown = made(tmp_path / "captures", name_of(tmp_path / "captures", "")).stdout
    assert f"extract, {count} captured requests" in shown
    rows = (tmp_path / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    assert sorted(json.loads(row)["record"][key] for row in rows) == sorted(values * 30)
    task: Any = load_spec(tmp_path / "made").task
    assert task.record["properties"][key]["type"] == kind


def test_an_answer_without_the_label_is_no_label_called_none(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    for label in (*LABELS, None):
        answer, count = AnswerChoice(json.dumps({"team": label})), 30 if label else 5
        traffic.add(lambda fake, _: chat(("user", f"Which team? As JSON.\n\n{fake.paragraph()}")), count, answer)
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    assert (job.form.kind, sorted(job.form.names)) == ("labels", sorted(LABELS))


def test_the_arguments_of_one_tool_are_records(captures: Path) -> None:
    assert "extract, 40 captured requests" in made(captures, name_of(captures, "book")).stdout
    signature = read_signature(captures.parent / "made")
    assert (signature.answer, signature.tool, signature.kind) == ("record", "book", "chat")
    row = json.loads((captures.parent / "made" / "data" / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert row["record"] == {"total": 3, "city": "Oslo"}


def test_calls_of_several_tools_are_a_job_of_tools(captures: Path) -> None:
    assert (
        "tools, 30 captured requests, calls of 2 tools, or texts"
        in made(captures, name_of(captures, "save-send")).stdout
    )
    signature = read_signature(captures.parent / "made")
    assert (signature.answer, signature.tool) == ("call", None)
    task = load_spec(captures.parent / "made").task
    assert [tool["function"]["name"] for tool in task.tools] == ["save", "send"]
    rows = [json.loads(line) for line in (captures.parent / "made/data/train.jsonl").read_text("utf-8").splitlines()]
    assert [bool(row.get("tools")) for row in rows] == [True] + [False] * 29
    assert all(row["call"]["model"] == "gpt-6-luna" for row in rows)
    checked = CliRunner().invoke(app, ["data", "check", str(captures.parent / "made")], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output


def test_one_tool_and_texts_are_a_job_of_tools_too(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    tools = [{"type": "function", "function": {"name": "book"}}]
    called = AnswerChoice("", tool_calls=[{"name": "book", "arguments": "{}"}])
    for count, answer in ((30, called), (20, AnswerChoice("Where to?"))):
        traffic.add(lambda fake, _: chat(("user", fake.sentence()), tools=tools), count, answer)
    traffic.close()
    name = name_of(tmp_path / "captures", "")
    assert "tools, 50 captured requests, calls of 1 tool, or texts" in made(tmp_path / "captures", name).stdout
    assert read_signature(tmp_path / "made").answer == "call"


@pytest.mark.slow
def test_what_cant_be_made_is_one_paragraph(captures: Path, tmp_path: Path) -> None:
    name = name_of(captures, "which-team")
    with pytest.raises(UserError, match=r"There is no job 'which'.*did you mean|See: tunewright traffic ls"):
        made(captures, "which")
    with pytest.raises(UserError, match="15 rows with an answer"):
        made(captures, name_of(captures, "which-intent"))
    with pytest.raises(UserError, match="--from-traffic needs the captures"):
        CliRunner().invoke(app, ["init", "--from-traffic", name], catch_exceptions=False)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine").touch()
    with pytest.raises(UserError, match="This path exists already"):
        made(captures, name)
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["mine"]
