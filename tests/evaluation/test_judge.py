"""The judge, asked through the official client at a real server on this machine that plays the large model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse

from tests.conftest import make_spec
from tests.evaluation.large_model import SECRET, LargeModel, large_model
from tunewright.core.artifacts import Output, read_jsonl, write_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.evaluation.api import endpoint
from tunewright.evaluation.api.endpoint import Endpoint
from tunewright.evaluation.api.judge import combine, run_judge, word_of
from tunewright.evaluation.api.paid import PAID, Paid, PaidAnswers
from tunewright.tasks import Example, Meta


def longer(message: str) -> str:
    material = json.loads(message)
    a, b = len(material["A"]), len(material["B"])
    return "A" if a > b else "B." if b > a else '"tie"'


@pytest.fixture
def model() -> Iterator[LargeModel]:
    with large_model(longer) as large:
        yield large


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)


SERVED = ["a long and helpful answer", "short", "the same answer", "longer than it"]
GIVEN = ["brief", "a much longer answer", "the same answer", "also long"]


def judged(model: LargeModel, folder: Path, **settings: Any) -> dict[str, Any]:
    """Run the step on four examples."""
    judge = {"model": "large", "url": model.url, "key": "JUDGE_KEY", **settings}
    spec = make_spec(folder, judge=judge)
    examples = [Example.of(f"request {n}", given, Meta(id=f"t{n}")) for n, given in enumerate(GIVEN)]
    split, parity, out = folder / "split", folder / "parity", folder / "judge"
    for path in (split, parity / "answers", out):
        path.mkdir(parents=True, exist_ok=True)
    save_dataset(split, Dataset(examples, [], {"test": examples}))
    records = [
        {
            "id": f"t{n}",
            "split": "test",
            "gold": given,
            "answer": served,
            "confidence": 0.5,
            "latency_ms": 1,
            "prompt_tokens": 1,
            "answer_tokens": 1,
        }
        for n, (served, given) in enumerate(zip(SERVED, GIVEN, strict=True))
    ]
    write_jsonl(parity / "answers" / "served.jsonl", records)
    run_judge(spec, {"split": split, "parity": parity}, Output(out))
    return dict(json.loads((out / "judge.json").read_text("utf-8")))


@pytest.mark.slow
def test_each_pair_is_judged_in_either_order(model: LargeModel, tmp_path: Path) -> None:
    result = judged(model, tmp_path)
    found = result["splits"]["test"]
    assert (found["better"], found["worse"], found["ties"]) == (2, 1, 1)
    assert found["preferred"]["value"] == pytest.approx(2.5 / 4)
    assert result["steady"] == 1
    assert len(model.asked) == 6, "two questions a pair; none where the answers are the same"
    assert result["prompt_tokens"] == 300
    assert [row["better"] for row in read_jsonl(tmp_path / "judge" / "judged.jsonl")] == [
        "first",
        "second",
        "tie",
        "first",
    ]


def test_a_judge_that_favours_a_place_finds_nothing_better(model: LargeModel, tmp_path: Path) -> None:
    model.reply = lambda _: "A"
    result = judged(model, tmp_path)
    assert result["splits"]["test"]["ties"] == 4
    assert result["steady"] == 0
    assert "0% of the pairs that differ got the same word in either order" in " ".join(result["told"])


@pytest.mark.slow
def test_nothing_is_paid_twice(model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_RETRIES", 0)
    first = judged(model, tmp_path)
    model.always = PlainTextResponse("no more", 500)
    assert judged(model, tmp_path) == first
    assert len(model.asked) == 6
    with pytest.raises(UserError, match=r"status 500.*kept"):
        judged(model, tmp_path, rubric="Another rubric is another question.", sample=1)


@pytest.mark.slow
def test_the_budget_holds_for_all_runs(model: LargeModel, tmp_path: Path) -> None:
    model.usage = {"prompt_tokens": 1000, "completion_tokens": 2000}
    answer, room = (1000 * 2.5 + 2000 * 10) / 1e6, 4000 * 10 / 1e6
    for _ in range(2):
        with pytest.raises(UserError, match=r"judge\.budget_usd.*judge\.sample"):
            judged(model, tmp_path, priced_as="gpt-4o", budget_usd=2 * answer + room + 0.005)
        assert len(model.asked) == 3
    judged(model, tmp_path, priced_as="gpt-4o")
    assert len(model.asked) == 6


def test_a_reply_has_the_room_that_the_budget_counts_and_more_where_it_was_cut(
    model: LargeModel, tmp_path: Path
) -> None:
    model.thinks = lambda _: 5000
    found = judged(model, tmp_path)
    assert (found["unread"], found["splits"]["test"]["better"]) == (0, 2)
    rooms = [each["max_completion_tokens"] for each in model.asked]
    assert sorted(rooms) == [4000] * 6 + [32_000] * 6
    assert {each["temperature"] for each in model.asked} == {0}
    model.reply = lambda _: {"finish_reason": "length", "message": {"role": "assistant", "content": "A"}}
    again = judged(model, tmp_path, rubric="Another rubric is another question.")
    assert again["unread"] == 3, "a reply that is cut says nothing"


@pytest.mark.slow
def test_replies_that_are_none_of_the_words_say_nothing(model: LargeModel, tmp_path: Path) -> None:
    model.reply = lambda _: "Both answers have their merits."
    result = judged(model, tmp_path)
    assert result["unread"] == 3
    assert result["splits"]["test"]["ties"] == 4


@pytest.mark.slow
def test_pairs_judged_by_people_tell_how_far_to_trust_it(model: LargeModel, tmp_path: Path) -> None:
    rows = [("aa", "b", "first"), ("a", "bb", "second"), ("aa", "bb", "tie"), ("aa", "b", "second")]
    write_jsonl(
        tmp_path / "human.jsonl",
        ({"text": "r", "first": first, "second": second, "better": better} for first, second, better in rows),
    )
    result = judged(model, tmp_path, human="human.jsonl")
    assert result["human"]["pairs"] == 4
    assert result["human"]["agreed"]["value"] == 0.75
    assert 0 < result["human"]["kappa"] < 1
    assert "kappa" in result["told"][-1]
    assert "is not known" in judged(model, tmp_path)["told"][-1]


@pytest.mark.parametrize("row", ['{"text": 1}', '{"text": "r", "first": "a", "second": "b", "better": "left"}', "{no"])
def test_a_row_that_is_no_judged_pair_is_named(model: LargeModel, tmp_path: Path, row: str) -> None:
    (tmp_path / "human.jsonl").write_text(row + "\n", "utf-8")
    with pytest.raises(UserError, match=r"human\.jsonl.*(better|JSON)"):
        judged(model, tmp_path, human="human.jsonl")
    assert not model.asked, "nothing is paid before the files are read"


@pytest.mark.slow
def test_a_busy_endpoint_is_asked_again(model: LargeModel, tmp_path: Path) -> None:
    model.failures = [PlainTextResponse("slow down", 429, {"Retry-After": "0"}), PlainTextResponse("oops", 500)]
    assert judged(model, tmp_path)["splits"]["test"]["better"] == 2
    assert len(model.asked) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "does not accept this key"),
        (403, "does not accept this key"),
        (404, "no model 'large'"),
        (400, "status 400"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_the_key(
    model: LargeModel, tmp_path: Path, status: int, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model.always = PlainTextResponse(f"bad key {SECRET}", status)
    with pytest.raises(UserError, match=expected) as caught:
        judged(model, tmp_path)
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_an_endpoint_that_is_not_there_is_named(
    model: LargeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_RETRIES", 0)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1/v1: The endpoint can't be reached"):
        judged(model, tmp_path, url="http://127.0.0.1:1/v1")


def test_a_missing_key_is_reported_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(UserError, match="export JUDGE_KEY="):
        Endpoint("https://api.example.com/v1", "large", "JUDGE_KEY", "judge")


@pytest.mark.parametrize("url", ["https://user:secret@example.com/v1", "https://example.com/v1?key=secret", "ftp://x"])
def test_an_address_holds_no_secret(url: str) -> None:
    with pytest.raises(UserError, match=r"judge\.url.*address without user"):
        make_spec(judge={"model": "large", "url": url})


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("A", "first"),
        (" b.\n", "second"),
        ("Tie", "tie"),
        ('"A"', "first"),
        ("Answer B", "second"),
        ("", None),
        ("A is better than B", None),
        ("AB", None),
    ],
)
def test_a_reply_is_read_where_it_is_one_of_the_words(reply: str, word: str | None) -> None:
    assert word_of(reply) == word


def test_both_orders_must_say_the_same() -> None:
    assert combine("first", "second").better == "first"
    assert combine("tie", "tie").better == "tie"
    assert combine("first", "first") == combine("second", "second")
    assert not combine(None, "first").read


def test_paid_answers_outlive_the_process(tmp_path: Path) -> None:
    with PaidAnswers(tmp_path / PAID) as paid:
        assert paid.get(["a"]) is None
        paid.put(["a"], Paid("x", 1, 2))
    with PaidAnswers(tmp_path / PAID) as paid:
        assert paid.get(["a"]) == Paid("x", 1, 2)
        assert paid.get(["b"]) is None
