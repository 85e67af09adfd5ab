"""Several APIs, asked through the official client at real servers on this machine that play them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import time_machine
from fastapi.responses import JSONResponse

from tests.conftest import LABELS, make_spec
from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tests.evaluation.test_baseline import COUNT, asked, examples, knows, records
from tunewright.config import Spec, load_spec
from tunewright.core.artifacts import Output
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.economics import price_book
from tunewright.economics.candidates import check_apis
from tunewright.evaluation.api.baseline import forecast, run_baseline
from tunewright.tasks import Example

pytestmark = pytest.mark.slow


@pytest.fixture
def servers() -> Iterator[tuple[LargeModel, LargeModel]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(large_model(knows)) for _ in range(2))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    monkeypatch.setenv("OTHER_KEY", "other")


def listed(folder: Path, *apis: dict[str, Any], budget: float = 5.0, today: str | None = None) -> Spec:
    return make_spec(
        folder, apis=[{"key": "API_KEY", **each} for each in apis], today=today, baseline={"budget_usd": budget}
    )


def test_all_are_asked_the_same_examples_each_with_its_own_key_and_prompt(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    dear, cheap = servers
    cheap.usage = {"prompt_tokens": 40, "completion_tokens": 2}
    spec = listed(
        tmp_path,
        {"url": dear.url},
        {"name": "luna", "model": "gpt-6-luna", "url": cheap.url, "key": "OTHER_KEY", "prompt": "Route: {labels}"},
    )
    result = asked(spec, tmp_path)["all"]
    assert list(result["apis"]) == ["gpt-4o", "luna"]
    assert len(dear.asked) == len(cheap.asked) == COUNT
    assert (dear.keys, cheap.keys) == ({f"Bearer {SECRET}"}, {"Bearer other"})
    assert cheap.asked[0]["messages"][0]["content"].startswith("Route: ")
    assert [each["id"] for each in records(tmp_path)] == [each["id"] for each in records(tmp_path, "luna")]
    assert result["apis"]["luna"]["usd_per_1000"] == pytest.approx(1000 * (40 * 0.1 + 2 * 0.5) / 1e6)
    assert result["usd"] == pytest.approx(COUNT * ((50 * 2.5 + 10) + (40 * 0.1 + 2 * 0.5)) / 1e6)


def test_a_question_to_one_api_is_not_asked_again_for_another(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    dear, cheap = servers
    asked(listed(tmp_path, {"url": dear.url}), tmp_path)
    spec = listed(tmp_path, {"url": dear.url}, {"model": "gpt-6-luna", "url": cheap.url})
    assert [(each.api, each.kept) for each in forecast(spec, tmp_path / "split", tmp_path / "runs").apis] == [
        ("gpt-4o", COUNT),
        ("gpt-6-luna", 0),
    ]
    asked(spec, tmp_path)
    assert (len(dear.asked), len(cheap.asked)) == (COUNT, COUNT)


def test_one_budget_holds_for_all(servers: tuple[LargeModel, LargeModel], tmp_path: Path) -> None:
    dear, cheap = servers
    dear.usage = {"prompt_tokens": 50, "completion_tokens": 400}
    spent = COUNT * (50 * 2 + 400 * 8) / 1e6
    spec = listed(tmp_path, {"model": "gpt-4.1", "url": dear.url}, {"url": cheap.url}, budget=spent + 0.043)
    with pytest.raises(UserError, match=r"budget_usd"):
        asked(spec, tmp_path)
    assert len(dear.asked) == COUNT
    assert 0 < len(cheap.asked) < COUNT, "the second has only what the first left"
    asked(spec.model_copy(update={"baseline": spec.baseline.model_copy(update={"budget_usd": 5.0})}), tmp_path)
    assert len(dear.asked) + len(cheap.asked) == 2 * COUNT


def test_a_new_api_at_the_head_of_the_list_leaves_what_the_others_have_cost(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    new, known = servers
    new.usage = known.usage = {"prompt_tokens": 50, "completion_tokens": 400}
    spent = asked(listed(tmp_path, {"url": known.url}), tmp_path)["all"]["usd"]
    both = {"model": "gpt-4.1", "url": new.url}, {"url": known.url}
    with pytest.raises(UserError, match=r"budget_usd"):
        asked(listed(tmp_path, *both, budget=spent + 0.043), tmp_path)
    assert 0 < len(new.asked) < COUNT
    assert asked(listed(tmp_path, *both), tmp_path)["all"]["usd"] == pytest.approx(
        spent + COUNT * (50 * 2 + 400 * 8) / 1e6
    )
    assert len(known.asked) == COUNT


def test_a_lower_effort_that_was_paid_for_stays_however_little_is_left(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    server.thinks = lambda body: 3 if _effort(body) == "none" else 300
    luna = {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "low"}
    paid = COUNT * (50 * 0.1 + 301 * 0.5) / 1e6
    spec = listed(tmp_path, luna, budget=2 * paid + 0.0021)
    first = asked(spec, tmp_path)
    assert first["lower"]
    assert asked(spec, tmp_path) == first
    assert len(server.asked) == 2 * COUNT


def test_every_key_is_looked_for_before_anything_is_paid(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTHER_KEY")
    dear, cheap = servers
    spec = listed(tmp_path, {"url": dear.url}, {"model": "gpt-6-luna", "url": cheap.url, "key": "OTHER_KEY"})
    with pytest.raises(UserError, match="export OTHER_KEY"):
        asked(spec, tmp_path)
    assert not dear.asked


@pytest.mark.parametrize("protocol", ["chat-completions", "responses"])
def test_thinking_is_counted_and_paid(servers: tuple[LargeModel, LargeModel], tmp_path: Path, protocol: str) -> None:
    server, _ = servers
    server.thinks = lambda body: 3 if _effort(body) == "none" else 300
    server.usage = {"prompt_tokens": 50, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 20}}
    spec = listed(tmp_path, {"model": "gpt-6-luna", "url": server.url, "protocol": protocol, "reasoning_effort": "low"})
    result = asked(spec, tmp_path)
    assert [result[part] for part in ("prompt_tokens", "cached_tokens", "answer_tokens", "reasoning_tokens")] == [
        50,
        20,
        305,
        300,
    ]
    per_1000 = 1000 * (30 * 0.1 + 20 * 0.01 + 305 * 0.5) / 1e6
    assert result["usd_per_1000"] == pytest.approx(per_1000)
    assert sum(row["answer"] == row["gold"] for row in records(tmp_path, "gpt-6-luna-low")) == COUNT * 4 // 5
    assert all(row["latency_ms"] > 0 for row in records(tmp_path, "gpt-6-luna-low"))
    lower = result["lower"]
    assert (lower["effort"], lower["count"], lower["primary_metric"]) == ("none", COUNT, lower["primary_metric_here"])
    assert lower["usd_per_1000"] < per_1000 / 10
    assert "At the reasoning effort none, 30 of the same examples come to 80.0%" in " ".join(result["told"])


def _effort(body: dict[str, Any]) -> str:
    return str(body.get("reasoning_effort") or body.get("reasoning", {}).get("effort"))


def test_the_lower_effort_is_not_asked_for_where_it_is_in_the_list(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    server.thinks = lambda body: {"none": 0, "low": 100, "medium": 300}[_effort(body)]
    both = [{"model": "gpt-6-luna", "url": server.url, "reasoning_effort": each} for each in ("low", "medium")]
    result = asked(listed(tmp_path, both[1], both[0]), tmp_path)["all"]["apis"]
    assert result["gpt-6-luna-medium"]["lower"] is None
    assert result["gpt-6-luna-medium"]["usd_per_1000"] > 2 * result["gpt-6-luna-low"]["usd_per_1000"]


def test_the_lower_effort_is_left_out_where_the_budget_has_no_room_for_it(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    """What the others left counts, and that one more answer may take all of its room; what was measured stands."""
    plain, thinks = servers
    thinks.thinks = lambda _: 300
    spent = COUNT * (50 * 0.2 + 1 * 1.2 + 50 * 0.1 + 301 * 0.5) / 1e6
    others = {"model": "gpt-5.6-luna", "url": plain.url, "reasoning_effort": "none"}
    luna = {"model": "gpt-6-luna", "url": thinks.url, "reasoning_effort": "low"}
    result = asked(listed(tmp_path, others, luna, budget=spent + 0.0055), tmp_path)["all"]["apis"]
    assert result["gpt-6-luna-low"]["lower"] is None
    assert len(thinks.asked) == COUNT


def test_a_lower_effort_takes_nothing_from_an_api_further_down_the_list(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    """There is room for the lower effort and for the second API, but not for the dearest answer after both."""
    thinks, plain = servers
    thinks.thinks = lambda _: 300
    luna = {"model": "gpt-6-luna", "url": thinks.url, "reasoning_effort": "low"}
    other = {"model": "gpt-5.6-luna", "url": plain.url, "reasoning_effort": "none"}
    spent = COUNT * (50 * 0.1 + 301 * 0.5 + 50 * 0.2 + 1 * 1.2) / 1e6
    result = asked(listed(tmp_path, luna, other, budget=spent + 0.0075), tmp_path)["all"]["apis"]
    assert len(plain.asked) == COUNT
    assert result["gpt-6-luna-low"]["lower"]["effort"] == "none"


@pytest.mark.parametrize("why", ["reasoning_effort", "budget"])
def test_a_lower_effort_that_can_not_be_asked_for_ends_nothing(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, capfd: pytest.CaptureFixture[str], why: str
) -> None:
    """The endpoint refuses it, or it thinks for longer than the budget allows, against all expectation."""
    server, _ = servers
    server.thinks = lambda body: 3900 if _effort(body) == "none" else 300
    if why == "reasoning_effort":
        refusal = JSONResponse({"error": {"message": "Unsupported value", "param": why, "code": "x"}}, 400)
        server.refuses = lambda body: refusal if _effort(body) == "none" else None
    spent = COUNT * (50 * 0.1 + 301 * 0.5) / 1e6
    luna = {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "low"}
    result = asked(listed(tmp_path, luna, budget=2 * spent + 0.005), tmp_path)
    assert result["lower"] is None
    assert result["primary_metric"] == {"test": 0.8}
    assert len(server.asked) > COUNT
    [told] = [line for line in "".join(capfd.readouterr()).splitlines() if "is left out" in line]
    assert why in told


def test_a_lower_effort_is_not_compared_where_every_reply_is_cut(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    server.thinks = lambda body: 90_000 if _effort(body) == "none" else 300
    luna = {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "low"}
    result = asked(listed(tmp_path, luna), tmp_path)
    assert (result["lower"], result["primary_metric"]) == (None, {"test": 0.8})


def test_a_lower_effort_is_compared_on_the_examples_that_both_answered(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    """At the spec's effort the first two are cut, at the lower one the last two; all of these would be right."""
    server, _ = servers

    def thinks(body: dict[str, Any]) -> int:
        number, is_lower = int(_last(body).split()[-1]), _effort(body) == "none"
        return 90_000 if number in ((28, 29) if is_lower else (1, 2)) else 3 if is_lower else 300

    server.thinks = thinks
    luna = {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "low"}
    lower = asked(listed(tmp_path, luna), tmp_path)["lower"]
    assert (lower["count"], lower["primary_metric"]) == (COUNT - 4, lower["primary_metric_here"])
    assert lower["primary_metric"] == pytest.approx((COUNT * 4 // 5 - 4) / (COUNT - 4))


def test_the_responses_api_gets_its_own_arguments(servers: tuple[LargeModel, LargeModel], tmp_path: Path) -> None:
    server, _ = servers
    spec = listed(
        tmp_path, {"model": "gpt-6-luna", "url": server.url, "protocol": "responses", "reasoning_effort": "none"}
    )
    asked(spec, tmp_path)
    sent = server.asked[0]
    assert (sent["max_output_tokens"], sent["reasoning"], sent["store"]) == (4000, {"effort": "none"}, False)
    assert sent["text"]["format"]["type"] == "json_schema"
    assert sent["text"]["format"]["schema"]["properties"]["label"]["enum"] == LABELS
    assert [each["role"] for each in sent["input"]] == ["system", "user"]
    assert not {"messages", "response_format", "max_completion_tokens"} & set(sent)


def test_the_responses_api_refuses_and_fails_like_the_other(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    failed = {"id": "1", "object": "response", "status": "failed", "error": {"code": "server_error"}, "output": []}
    server.failures = [JSONResponse(failed), JSONResponse({"error": {"message": "slow"}}, 429, {"Retry-After": "1"})]
    server.reply = lambda message: {"refusal": "No."} if message.endswith(" 7") else knows(message)
    result = asked(listed(tmp_path, {"model": "gpt-6-luna", "url": server.url, "protocol": "responses"}), tmp_path)
    assert (result["refused"], result["unread"], result["cut"]) == (1, 0, 0)
    assert len(server.asked) == COUNT + 2


@pytest.mark.parametrize("protocol", ["chat-completions", "responses"])
def test_an_answer_that_thinks_long_gets_more_room(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, protocol: str
) -> None:
    """Every tenth takes 9,000 tokens of thought: more than a thousand, and than the room that is given at first."""
    server, _ = servers
    server.thinks = lambda body: 9000 if _last(body).endswith("0") else 10
    spec = listed(
        tmp_path, {"model": "gpt-6-luna", "url": server.url, "protocol": protocol, "reasoning_effort": "none"}
    )
    result = asked(spec, tmp_path)
    assert (result["cut"], result["unread"]) == (0, 0)
    assert len(server.asked) == COUNT + 3
    assert len(records(tmp_path, "gpt-6-luna-none")) == COUNT
    assert result["usd"] > result["usd_per_1000"] * COUNT / 1000, "what was cut was paid too"


def _last(body: dict[str, Any]) -> str:
    return str((body.get("messages") or body["input"])[-1]["content"])


@pytest.mark.parametrize("room", [0, 16_384], ids=["endless", "small"])
def test_a_reply_cut_twice_counts_as_cut_and_as_no_answer(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, room: int
) -> None:
    server, _ = servers
    server.room = room
    server.thinks = lambda body: 90_000 if _last(body).endswith("0") else 10
    result = asked(listed(tmp_path, {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "none"}), tmp_path)
    assert (result["cut"], result["unread"]) == (3, 0)
    assert "3 of its 30 replies were cut" in " ".join(result["told"])
    rows = records(tmp_path, "gpt-6-luna-none")
    assert len(rows) == COUNT
    assert [row["answer"] for row in rows if row["cut"]] == [""] * 3
    right = sum(row["answer"] == row["gold"] for row in rows)
    assert (right, result["primary_metric"]["test"]) == (COUNT * 4 // 5, 0.8)
    assert "27 of its 30 examples are answered" in result["told"][0]


def test_an_api_that_is_cut_too_often_has_no_figure(servers: tuple[LargeModel, LargeModel], tmp_path: Path) -> None:
    server, _ = servers
    server.thinks = lambda body: 90_000 if int(_last(body).split()[-1]) < 4 else 10
    luna = {"model": "gpt-6-luna", "url": server.url, "reasoning_effort": "none"}
    result = asked(listed(tmp_path, luna), tmp_path)
    assert (result["cut"], result["primary_metric"]) == (4, {})
    assert "On test, 4 of its 30 replies were cut." in " ".join(result["told"])


def test_an_endpoint_that_knows_max_tokens_only_is_asked_so(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    """Mistral's API: status 422, the argument named in a list, and thinking in parts of the content."""
    server, _ = servers
    server.old_names = True

    def in_parts(message: str) -> dict[str, Any]:
        parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": knows(message)}]
        return {"message": {"role": "assistant", "content": parts}}

    server.reply = in_parts
    result = asked(listed(tmp_path, {"model": "mistral-small-2603", "url": server.url}), tmp_path)
    assert result["unread"] == 0
    assert sum("max_tokens" in body for body in server.asked) == COUNT
    assert result["primary_metric"]["test"] == 0.8


def test_an_effort_that_the_endpoint_refuses_is_reported(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    refusal = {"error": {"message": "Unsupported value", "param": "reasoning_effort", "code": "unsupported_value"}}
    server.always = JSONResponse(refusal, 400)
    with pytest.raises(UserError, match=r"Give it another `reasoning_effort` under apis, luna"):
        asked(
            listed(tmp_path, {"name": "luna", "model": "gpt-6-luna", "url": server.url, "reasoning_effort": "max"}),
            tmp_path,
        )


def test_replies_in_another_form_are_said_to_be(servers: tuple[LargeModel, LargeModel], tmp_path: Path) -> None:
    server, _ = servers
    server.reply = lambda message: f"That is a case for {json.loads(knows(message))['label']}, I think."
    result = asked(listed(tmp_path, {"model": "claude-haiku-5-5", "url": server.url}), tmp_path)
    assert "may not know response_format or tools: `structured: false`" in " ".join(result["told"])


@pytest.mark.parametrize(
    ("apis", "expected"),
    [
        ([{"model": "gpt-9"}], "The price book has no 'gpt-9'"),
        ([{"model": "gpt-6-luna", "reasoning_effort": "hihg"}], r"apis, gpt-6-luna-hihg: .* takes no .* mean 'high'"),
        ([{"model": "gpt-6.1-sol", "reasoning_effort": "none"}], "It takes: low, medium, high, xhigh, max"),
        ([{"model": "gpt-4o", "reasoning_effort": "low"}], "does not think before it answers"),
        ([{}, {"model": "gpt-4.1-nano"}], r"gpt-4.1-nano left OpenAI's API on 2026-10-23: it can't be asked any more"),
    ],
)
def test_an_api_that_can_not_be_asked_is_reported_before_anything_else(
    apis: list[dict[str, Any]], expected: str, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, apis=apis)
    with pytest.raises(UserError, match=expected):
        check_apis(spec, price_book(), date(2026, 11, 28))


def test_one_that_is_gone_may_be_what_was_paid_for_and_what_it_said_may_be_recorded(tmp_path: Path) -> None:
    check_apis(make_spec(tmp_path, api={"model": "gpt-4.1-nano"}), price_book(), date(2026, 11, 28))
    for answers in ({"recorded": "old.jsonl"}, {"url": "openai"}):
        listed = [{}, {"model": "gpt-4.1-nano", **answers}]
        check_apis(make_spec(tmp_path, apis=listed), price_book(), date(2026, 11, 28))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"apis": [{}, {}]}, "two of `apis` are called 'gpt-4o'"),
        ({"apis": [{}], "today": "luna"}, "`apis` has only gpt-4o"),
        ({"today": "gpt-4o"}, "the spec has no `apis`"),
        ({"apis": [{}], "api": {"model": "gpt-4.1"}}, "use one of them"),
        ({"apis": [{"name": "a/b"}]}, "a name has at most 60"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(spec: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make_spec(**spec)


def test_an_override_adds_one_to_the_list_and_a_saved_spec_is_the_same(tmp_path: Path) -> None:
    luna = "apis+={model: gpt-6-luna, url: openai}"
    spec = load_spec("examples/tickets", [luna, "apis+={model: ministral-3b-2512, url: mistral, recorded: null}"])
    assert list(spec.candidate_apis) == [spec.api.label, "gpt-6-luna", "ministral-3b-2512"]
    last = spec.candidate_apis["ministral-3b-2512"]
    assert (last.url, last.key) == ("https://api.mistral.ai/v1", "MISTRAL_API_KEY")
    again = load_spec(spec.save(tmp_path))
    assert again.candidate_apis == spec.candidate_apis
    with pytest.raises(UserError, match="works with `apis` only"):
        load_spec("examples/tickets", ["models+=phi-3-mini"])
    for wrong in ("apis+=luna", "apis+={model: 5}", "apis+=[1]"):
        with pytest.raises(UserError, match="'apis"):
            load_spec("examples/tickets", [wrong])
    with pytest.raises(UserError, match="'apis'"):
        load_spec("examples/tickets", ["apis=5", luna])


def test_an_override_goes_into_the_one_that_is_called_the_same() -> None:
    """As the verdict advises where one of the list was not measured; which is paid for today stays."""
    listed = "apis=[{prompt: Sort it.}, {model: gpt-6-luna, shots: 4}]"
    spec = load_spec("examples/tickets", [listed, "apis+={name: gpt-6-luna, url: openai}", "apis+={url: openai}"])
    assert list(spec.candidate_apis) == ["gpt-4o", "gpt-6-luna"]
    luna = spec.candidate_apis["gpt-6-luna"]
    assert (luna.model, luna.shots, luna.key) == ("gpt-6-luna", 4, "OPENAI_API_KEY")
    assert (spec.api.prompt, spec.api.url) == ("Sort it.", luna.url)


def test_recorded_answers_of_several_travel_with_a_saved_spec(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("{}\n")
    spec = make_spec(tmp_path, apis=[{}, {"name": "old", "model": "gpt-4.1", "recorded": "b.jsonl"}])
    assert spec.sources["recorded.old"] == tmp_path / "b.jsonl"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = load_spec(spec.save(elsewhere, sources={key: f"/given/{key}" for key in spec.sources}))
    assert again.candidate_apis["old"].recorded == Path("/given/recorded.old")


AFTER = datetime(2027, 2, 1, tzinfo=UTC)
"""A day after the end of gpt-4o."""


def step(spec: Spec, folder: Path, name: str, tests: list[Example]) -> dict[str, Any]:
    """Run the step on some test examples; returns what its `baseline.json` holds."""
    split, out = folder / "split", folder / "runs" / f"baseline-{name}"
    for path in (split, out):
        path.mkdir(parents=True, exist_ok=True)
    save_dataset(split, Dataset(tests, [], {"test": tests}))
    run_baseline(spec, {"split": split}, Output(out))
    return dict(json.loads((out / "baseline.json").read_text("utf-8")))


@pytest.mark.parametrize("apis", [[{}], [{"name": "luna", "model": "gpt-6-luna"}, {}]], ids=["today's", "another"])
def test_an_ended_api_that_was_never_measured_is_refused(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, apis: list[dict[str, Any]]
) -> None:
    spec = listed(tmp_path, *({"url": servers[0].url, **each} for each in apis))
    leave = "Take its `url` away" if len(apis) == 1 else "Take it out of `apis`"
    with time_machine.travel(AFTER), pytest.raises(UserError, match=f"no run here has measured it.*{leave}"):
        asked(spec, tmp_path)
    assert all(each["model"] != "gpt-4o" for each in servers[0].asked)


def test_an_ended_api_stands_by_the_answers_that_were_kept(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 32 examples are new: nine in ten are enough, as for recorded answers."""
    server, _ = servers
    spec = listed(tmp_path, {"url": server.url})
    before = step(spec, tmp_path, "1", examples())
    monkeypatch.delenv("API_KEY")
    with time_machine.travel(AFTER):
        assert step(spec, tmp_path, "2", examples()) == before
        after = step(spec, tmp_path, "3", examples(32))
        (planned,) = forecast(spec, tmp_path / "split", tmp_path / "runs").apis
    assert len(server.asked) == COUNT
    assert "30 of its 32 examples are answered" in after["told"][0]
    assert after["usd"] == before["usd"]
    assert (planned.questions, planned.kept, planned.usd) == (COUNT, COUNT, 0)


def test_a_retraining_goes_on_without_an_ended_api_whose_answers_no_longer_cover_the_test(
    servers: tuple[LargeModel, LargeModel], tmp_path: Path
) -> None:
    server, _ = servers
    spec = listed(tmp_path, {"url": server.url})
    step(spec, tmp_path, "1", examples())
    with time_machine.travel(AFTER):
        after = step(spec, tmp_path, "2", examples(40))
        rmtree(tmp_path / "runs" / "baseline-1")
        assert step(spec, tmp_path, "3", examples(41))["apis"] == {}, "the last output names it"
    assert len(server.asked) == COUNT
    assert (after["apis"], after["left_out"]) == ({}, ["gpt-4o"])
    assert after["told"] == [
        "gpt-4o left OpenAI's API on 2027-01-14: it can't be asked any more, and 30 of the 40 examples of test have an "
        "answer from before. It is left out."
    ]
