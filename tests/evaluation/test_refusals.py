"""Requests that an endpoint refuses: for their text, which is an answer to them, or for something that all have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, Response

from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tests.evaluation.test_baseline import COUNT, asked, examples, knows, records, spec_for
from tunewright.core.errors import UserError

pytestmark = pytest.mark.slow

FLAGGED = {"message": "Invalid prompt: it was flagged.", "type": "invalid_request_error", "param": None}
FLAGGED |= {"code": "invalid_prompt"}
TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (1000 in the messages,"
)
TOO_LONG += " 4000 in the completion)."
OLD_VLLM = {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400}
TOO_MUCH = (
    "This model's maximum context length is 4096 tokens, but your request has 3000 input tokens plus 4000 max_tokens"
)
BODIES: dict[str, tuple[int, Any]] = {
    "openai": (400, {"error": FLAGGED}),
    "old vllm": (400, OLD_VLLM),
    "vllm": (400, {"error": {"message": TOO_MUCH, "param": "input_tokens, max_tokens", "code": 400}}),
    "vllm decoder": (
        400,
        {
            "error": {
                "message": "The decoder prompt (length 9) is longer than the maximum model length of 4.",
                "code": 400,
            }
        },
    ),
    "sglang": (
        400,
        {"object": "error", "message": "The input (9 tokens) is longer than the model's context length (4 tokens)."},
    ),
    "llama.cpp": (400, {"error": {"code": 400, "message": "the request exceeds the available context size"}}),
    "tgi": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
            "error_type": "validation",
        },
    ),
    "anthropic": (
        400,
        {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 4 maximum"}},
    ),
    "mistral": (
        400,
        {"object": "error", "message": "Prompt contains 9 tokens, too large for model with 4 maximum context length"},
    ),
    "google": (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (9) exceeds the maximum number of tokens allowed (4).",
                }
            }
        ],
    ),
    "azure": (400, {"error": {"message": TOO_LONG, "param": "messages", "code": "context_length_exceeded"}}),
}
NO_REASON: dict[str, tuple[int, Any]] = {
    "none": (400, {"error": {"message": "This request was refused.", "param": None, "code": None}}),
    "place": (
        400,
        {"error": {"message": "too long", "param": "messages[1].content", "code": "string_above_max_length"}},
    ),
    "size": (413, {"error": {"message": "Request Entity Too Large"}}),
}


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(knows) as large:
        yield large


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)


def body_of(given: tuple[int, Any]) -> Response:
    status, body = given
    return JSONResponse(body, status)


def one(given: tuple[int, Any]) -> Callable[[dict[str, Any]], Response | None]:
    """The refusal of a single text."""
    return lambda body: body_of(given) if body["messages"][-1]["content"].endswith(" 7") else None


@pytest.mark.parametrize("given", [*BODIES.values(), *NO_REASON.values()], ids=[*BODIES, *NO_REASON])
def test_one_text_that_is_refused_is_one_refused_answer(
    model: LargeModel, tmp_path: Path, given: tuple[int, Any]
) -> None:
    model.refuses = one(given)
    result = asked(spec_for(tmp_path, model), tmp_path)
    assert (result["refused"], result["unread"]) == (1, 0)
    assert len(records(tmp_path)) == COUNT
    assert len(model.asked) == COUNT


@pytest.mark.parametrize("given", BODIES.values(), ids=BODIES)
def test_a_refusal_with_its_reason_is_kept(model: LargeModel, tmp_path: Path, given: tuple[int, Any]) -> None:
    model.refuses = one(given)
    first, again = (asked(spec_for(tmp_path, model), tmp_path) for _ in range(2))
    assert (again["refused"], len(model.asked)) == (1, COUNT)
    assert again["usd"] == pytest.approx(first["usd"])


def test_a_refused_text_that_is_left_alone_is_known_by_the_answers_of_earlier_runs(
    model: LargeModel, tmp_path: Path
) -> None:
    asked(spec_for(tmp_path, model), tmp_path, [each for each in examples() if not each.request.endswith(" 7")])
    model.refuses = one(NO_REASON["none"])
    assert asked(spec_for(tmp_path, model), tmp_path)["refused"] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (BODIES["openai"], "does not take this request"),
        (BODIES["old vllm"], "reads less than a prompt and the room"),
        (NO_REASON["none"], "does not take this request"),
        ((400, {"error": {"message": "no", "param": "response_format", "code": None}}), "response_format"),
    ],
    ids=["flagged", "short", "none", "argument"],
)
def test_what_is_refused_for_every_text_ends_the_command(
    model: LargeModel, tmp_path: Path, given: tuple[int, Any], expected: str
) -> None:
    model.always = body_of(given)
    with pytest.raises(UserError, match=expected):
        asked(spec_for(tmp_path, model), tmp_path, examples(100))
    assert len(model.asked) < 60
    model.always = None
    assert asked(spec_for(tmp_path, model), tmp_path)["refused"] == 0, "no such refusal is kept"


def test_an_account_that_is_spent_on_the_way_loses_nothing(model: LargeModel, tmp_path: Path) -> None:
    """Some vendors say so with status 400 and without a code."""
    spent = (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low."}})
    model.refuses = lambda _: body_of(spent) if len(model.asked) > 40 else None
    with pytest.raises(UserError, match="does not take this request"):
        asked(spec_for(tmp_path, model), tmp_path, examples(100))
    model.refuses = lambda _: None
    assert asked(spec_for(tmp_path, model), tmp_path, examples(100))["refused"] == 0


def test_more_room_than_the_model_has_leaves_the_first_reply(model: LargeModel, tmp_path: Path) -> None:
    model.thinks = lambda body: 90_000 if body["messages"][-1]["content"].endswith("0") else 10
    model.refuses = lambda body: body_of(BODIES["old vllm"]) if body["max_completion_tokens"] > 16_000 else None
    result = asked(spec_for(tmp_path, model), tmp_path)
    assert (result["cut"], result["refused"]) == (3, 0)


def test_the_responses_api_reports_a_refused_text_as_a_failure(model: LargeModel, tmp_path: Path) -> None:
    failed = {"id": "1", "object": "response", "status": "failed", "error": FLAGGED, "output": []}
    model.failures = [JSONResponse(failed)]
    assert asked(spec_for(tmp_path, model, protocol="responses"), tmp_path)["refused"] == 1
