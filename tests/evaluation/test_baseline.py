"""The API baseline, asked through the official client at a real server on this machine that plays the API."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse

from tests.conftest import LABELS, make_spec
from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tunewright.config import Spec
from tunewright.config.sections import ENTRA
from tunewright.core.artifacts import Output, read_jsonl, write_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.evaluation.api import endpoint
from tunewright.evaluation.api.baseline import forecast, run_baseline
from tunewright.evaluation.api.pace import Pace
from tunewright.tasks import Example, Meta

pytestmark = pytest.mark.slow

COUNT = 30


def knows(message: str) -> str:
    """The right label of every request but each fifth."""
    number = int(message.split()[-1])
    return json.dumps({"label": LABELS[number % 3] if number % 5 else LABELS[(number + 1) % 3]})


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(knows) as large:
        yield large


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)


def examples(count: int = COUNT) -> list[Example]:
    return [Example.of(f"request {n}", LABELS[n % 3], Meta(id=f"t{n}")) for n in range(count)]


def spec_for(folder: Path, model: LargeModel | None, task: dict[str, Any] | None = None, **api: Any) -> Spec:
    url = {"url": model.url, "key": "API_KEY"} if model else {}
    asking = {key: api.pop(key) for key in ("sample", "budget_usd") if key in api}
    return make_spec(folder, api={**url, **api}, baseline=asking, **({"task": task} if task else {}))


def asked(spec: Spec, folder: Path, tests: Sequence[Example] | None = None) -> dict[str, Any]:
    """Run the step; returns what `baseline.json` holds."""
    split, out = folder / "split", folder / "runs" / "baseline"
    for path in (split, out):
        path.mkdir(parents=True, exist_ok=True)
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    chosen = examples() if tests is None else list(tests)
    save_dataset(split, Dataset(chosen, [], {"test": chosen}))
    run_baseline(spec, {"split": split}, Output(out))
    result = json.loads((out / "baseline.json").read_text("utf-8"))
    return dict(result["apis"][spec.api.label] | {"all": result})


def records(folder: Path, name: str = "gpt-4o") -> list[dict[str, Any]]:
    return list(read_jsonl(folder / "runs" / "baseline" / "answers" / f"{name}.jsonl"))


def test_every_test_example_is_asked_and_scored(model: LargeModel, tmp_path: Path) -> None:
    result = asked(spec_for(tmp_path, model), tmp_path)
    assert len(model.asked) == COUNT
    assert sum(row["answer"] == row["gold"] for row in records(tmp_path)) == COUNT * 4 // 5
    assert "80.0%" in result["told"][0]
    assert all(row["latency_ms"] > 0 for row in records(tmp_path))
    assert model.keys == {f"Bearer {SECRET}"}
    sent = model.asked[0]
    assert sent["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == LABELS
    assert sent["temperature"] == 0
    assert sent["max_completion_tokens"] == 4000
    assert not any(SECRET in file.read_text("latin-1") for file in tmp_path.rglob("*") if file.is_file())


def test_nothing_is_paid_twice_and_more_is_added(model: LargeModel, tmp_path: Path) -> None:
    first = asked(spec_for(tmp_path, model, sample=10), tmp_path)
    assert len(model.asked) == 10
    whole = asked(spec_for(tmp_path, model), tmp_path)
    assert len(model.asked) == COUNT
    assert asked(spec_for(tmp_path, model), tmp_path) == whole
    assert len(model.asked) == COUNT
    assert first["usd"] < whole["usd"]


def test_the_same_request_is_asked_once(model: LargeModel, tmp_path: Path) -> None:
    same = [Example.of("request 1", LABELS[1], Meta(id=f"t{n}")) for n in range(5)]
    result = asked(spec_for(tmp_path, model), tmp_path, same)
    assert len(model.asked) == 1
    assert len(records(tmp_path)) == 5
    assert result["usd"] == pytest.approx((50 * 2.5 + 1 * 10) / 1e6)
    assert forecast(spec_for(tmp_path, model, shots=1), tmp_path / "split", tmp_path / "runs").apis[0].questions == 1


def test_cached_tokens_cost_less(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    full = asked(spec_for(tmp_path / "a", model), tmp_path / "a")
    model.usage["prompt_tokens_details"] = {"cached_tokens": 800}
    cheap = asked(spec_for(tmp_path / "b", model), tmp_path / "b")
    assert full["usd"] == pytest.approx(COUNT * (1000 * 2.5 + 10 * 10) / 1e6)
    assert cheap["usd"] == pytest.approx(COUNT * (200 * 2.5 + 800 * 1.25 + 10 * 10) / 1e6)
    assert "80% of them cached" in cheap["told"][-1]


def test_tokens_kept_in_the_cache_cost_more(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cache_write_tokens": 600}}
    luna = make_spec(tmp_path, api={"url": model.url, "key": "API_KEY", "model": "gpt-6-luna"})
    kept = asked(luna, tmp_path)
    assert kept["cache_write_tokens"] == 600
    assert kept["usd"] == pytest.approx(COUNT * (400 * 0.1 + 600 * 0.125 + 10 * 0.5) / 1e6)


def test_it_stops_before_the_budget_is_passed(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {"prompt_tokens": 100, "completion_tokens": 100}
    each, dearest = (100 * 2.5 + 100 * 10) / 1e6, 4000 * 10 / 1e6
    with pytest.raises(UserError, match=r"budget.*baseline\.budget_usd") as stopped:
        asked(spec_for(tmp_path, model, budget_usd=dearest + 10 * each), tmp_path)
    assert "kept" in str(stopped.value)
    assert 0 < len(model.asked) * each <= dearest + 10 * each
    assert len(model.asked) < COUNT
    asked(spec_for(tmp_path, model, budget_usd=2 * dearest + 40 * each), tmp_path)
    assert len(model.asked) == COUNT, "what was paid for was kept"


def test_an_endpoint_that_does_not_count_is_taken_for_the_dearest(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {}
    with pytest.raises(UserError, match="budget"):
        asked(spec_for(tmp_path, model, budget_usd=0.2), tmp_path)
    assert 0 < len(model.asked) <= 5
    result = asked(spec_for(tmp_path, model, budget_usd=5, sample=3), tmp_path)
    assert "not known" in " ".join(result["told"])


def test_a_malformed_reply_counts_against_the_budget(model: LargeModel, tmp_path: Path) -> None:
    model.always = JSONResponse({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 1000}})
    with pytest.raises(UserError, match="budget"):
        asked(spec_for(tmp_path, model, budget_usd=0.1), tmp_path)
    assert len(model.asked) <= 2


@pytest.mark.parametrize(
    "body",
    [
        "5",
        "[]",
        "null",
        '{"choices": {"a": 1}}',
        '{"choices": [{"message": {"content": [{"text": "x"}]}}]}',
    ],
)
def test_odd_bodies_are_no_answers(model: LargeModel, tmp_path: Path, body: str) -> None:
    model.failures = [PlainTextResponse(body, media_type="application/json")]
    assert asked(spec_for(tmp_path, model), tmp_path)["unread"] == 0
    assert len(model.asked) == COUNT + 1


def test_half_a_sign_is_read_as_a_wrong_answer(model: LargeModel, tmp_path: Path) -> None:
    choice = r'{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "\ud83d"}}'
    model.always = PlainTextResponse(f'{{"choices": [{choice}]}}', media_type="application/json")
    assert asked(spec_for(tmp_path, model), tmp_path)["unread"] == COUNT


def test_a_model_that_takes_no_temperature_is_asked_without(model: LargeModel, tmp_path: Path) -> None:
    refusal = {"error": {"message": "unsupported", "param": "temperature", "code": "unsupported_value"}}
    model.failures = [JSONResponse(refusal, 400)]
    assert asked(spec_for(tmp_path, model), tmp_path)["unread"] == 0
    assert sum("temperature" not in sent for sent in model.asked) >= COUNT - 16


def test_a_long_wait_is_reported_and_not_waited(model: LargeModel, tmp_path: Path) -> None:
    model.always = PlainTextResponse("tomorrow", 429, {"Retry-After": "86400"})
    started = time.monotonic()
    with pytest.raises(UserError, match="asks to wait 86,400 s"):
        asked(spec_for(tmp_path, model), tmp_path)
    assert time.monotonic() - started < 20


def test_after_a_refusal_nothing_more_is_sent(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "Pace", lambda _: Pace(1))
    model.always = PlainTextResponse("no", 418)
    with pytest.raises(UserError, match="status 418"):
        asked(spec_for(tmp_path, model), tmp_path)
    assert len(model.asked) == 1


def test_a_dry_run_asks_nothing(model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(spec_for(tmp_path, model, sample=10), tmp_path)
    monkeypatch.delenv("API_KEY")
    spec = spec_for(tmp_path, model)
    [result] = forecast(spec, tmp_path / "split", tmp_path / "runs").apis
    assert (result.questions, result.kept) == (COUNT, 10)
    assert 0 < result.usd < 0.01
    assert len(model.asked) == 10


def test_a_busy_endpoint_is_waited_for_and_asked_less(model: LargeModel, tmp_path: Path) -> None:
    model.seconds = 0.02
    busy = PlainTextResponse("slow down", 429, {"Retry-After": "1"})
    model.failures = [busy, busy, PlainTextResponse("oops", 500)]
    started = time.monotonic()
    result = asked(spec_for(tmp_path, model), tmp_path)
    assert time.monotonic() - started > 1
    assert len(model.asked) == COUNT + 3
    assert result["unread"] == 0


def test_a_body_that_breaks_off_is_asked_for_again(model: LargeModel, tmp_path: Path) -> None:
    broken = PlainTextResponse('{"id": "1", "choices": [{"mess', media_type="application/json")
    model.failures = [broken, JSONResponse({"error": None})]
    assert asked(spec_for(tmp_path, model), tmp_path)["unread"] == 0
    assert len(model.asked) == COUNT + 2
    model.always = broken
    with pytest.raises(UserError, match="answer can't be used"):
        asked(spec_for(tmp_path, model, shots=1), tmp_path)


def test_refusals_and_wrong_answers_count_as_wrong_and_are_reported(model: LargeModel, tmp_path: Path) -> None:
    def flawed(message: str) -> str | dict[str, Any]:
        match int(message.split()[-1]) % 5:
            case 0:
                return {"message": {"role": "assistant", "content": None, "refusal": "I can't help with that."}}
            case 2:
                return "shipping"
            case 3:
                return {"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}}
        return knows(message)

    model.reply = flawed
    result = asked(spec_for(tmp_path, model), tmp_path)
    assert (result["refused"], result["unread"]) == (12, 6)
    assert sum(row["answer"] == row["gold"] for row in records(tmp_path)) == 12
    assert "12 refused, 6 no answer" in " ".join(result["told"])


def test_a_prompt_that_a_filter_stops_is_a_refusal(model: LargeModel, tmp_path: Path) -> None:
    model.failures = [JSONResponse({"error": {"code": "content_filter", "message": "filtered"}}, 400)]
    assert asked(spec_for(tmp_path, model), tmp_path)["refused"] == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "does not accept this key"),
        (404, "no model 'my-gpt'"),
        (400, "`structured: false`"),
        (418, "status 418"),
    ],
)
def test_an_endpoint_that_refuses_says_what_to_do(
    model: LargeModel, tmp_path: Path, status: int, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model.always = JSONResponse({"error": {"message": f"no {SECRET}", "param": "response_format"}}, status)
    with pytest.raises(UserError, match=expected) as caught:
        asked(spec_for(tmp_path, model, deployment="my-gpt"), tmp_path)
    assert SECRET not in str(caught.value) + "".join(capfd.readouterr())


def test_answers_under_way_at_a_failure_are_kept(model: LargeModel, tmp_path: Path) -> None:
    model.seconds = 0.2
    model.failures = [PlainTextResponse("no", 418)]
    with pytest.raises(UserError, match="status 418"):
        asked(spec_for(tmp_path, model), tmp_path)
    before = len(model.asked)
    assert 1 < before < COUNT
    model.seconds = 0
    asked(spec_for(tmp_path, model), tmp_path)
    assert len(model.asked) == COUNT + 1, "only what failed is asked again"


def test_it_never_has_more_under_way_than_it_should(model: LargeModel, tmp_path: Path) -> None:
    model.seconds = 0.05
    asked(spec_for(tmp_path, model), tmp_path, examples(60))
    assert 4 < model.most_at_once <= 16


def test_without_structure_the_form_is_asked_for_in_words(model: LargeModel, tmp_path: Path) -> None:
    model.reply = lambda message: f"`{json.loads(knows(message))['label'].upper()}`."
    asked(spec_for(tmp_path, model, structured=False), tmp_path)
    sent = model.asked[0]
    assert "response_format" not in sent
    assert "one of the labels" in sent["messages"][0]["content"]
    assert sum(row["answer"] == row["gold"] for row in records(tmp_path)) == COUNT * 4 // 5


def test_shots_are_shown_in_the_form_that_is_asked_for(model: LargeModel, tmp_path: Path) -> None:
    asked(spec_for(tmp_path, model, shots=3), tmp_path)
    shown = [message["content"] for message in model.asked[0]["messages"] if message["role"] == "assistant"]
    assert sorted(json.loads(text)["label"] for text in shown) == sorted(LABELS)


def test_recorded_answers_cost_nothing(tmp_path: Path) -> None:
    rows = [{"text": f"request  {n}\n", "label": json.loads(knows(f"r {n}"))["label"]} for n in range(COUNT)]
    write_jsonl(tmp_path / "old.jsonl", rows[:28])
    result = asked(spec_for(tmp_path, None, recorded="old.jsonl"), tmp_path)
    assert (result["source"], result["usd"], result["prompt_tokens"]) == ("recorded", 0, None)
    assert "28 of its 30 examples are answered" in result["told"][0]
    assert len(records(tmp_path)) == 28


def test_recorded_answers_of_half_of_the_tests_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "old.jsonl", [{"text": f"request {n}", "label": "billing"} for n in range(15)])
    with pytest.raises(UserError, match=r"answers 15 of the 30 texts .* at least 90% must be there"):
        asked(spec_for(tmp_path, None, recorded="old.jsonl"), tmp_path)


def test_recorded_answers_may_be_stored_completions(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        reply = {"role": "assistant", "content": "billing"}
        return {"messages": [{"role": "user", "content": f"request {number}"}, reply]}

    write_jsonl(tmp_path / "stored.jsonl", map(row, range(COUNT)))
    asked(spec_for(tmp_path, None, recorded="stored.jsonl"), tmp_path)
    assert sum(row["answer"] == row["gold"] for row in records(tmp_path)) == COUNT // 3


def test_recorded_answers_of_other_texts_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "old.jsonl", [{"text": "something else", "label": "billing"}])
    with pytest.raises(UserError, match=r"old\.jsonl: This file answers 0 of the 30 texts of the test split test"):
        asked(spec_for(tmp_path, None, recorded="old.jsonl"), tmp_path)


def test_a_missing_key_is_reported_before_any_request(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("API_KEY")
    with pytest.raises(UserError, match="export API_KEY="):
        asked(spec_for(tmp_path, model), tmp_path)
    assert not model.asked


def test_entra_signs_in_with_the_real_credential_chain(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The chain's last links are programs; this one plays Azure's command line, the rest is azure-identity itself.
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    token = {
        "accessToken": "entra-token",
        "expiresOn": "2099-01-01 00:00:00.000000",
        "expires_on": 4070908800,
        "subscription": "s",
        "tenant": "t",
        "tokenType": "Bearer",
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(token)}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    asked(spec_for(tmp_path, model, key=ENTRA), tmp_path)
    assert model.keys == {"Bearer entra-token"}
    program.write_text("#!/bin/sh\necho 'Please run az login' >&2\nexit 1\n")
    with pytest.raises(UserError, match="az login"):
        asked(spec_for(tmp_path, model, key=ENTRA, shots=1), tmp_path)
