"""The page for the person who pays."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.evaluation.scenario import DAY, candidate, compared, evidence_of
from tunewright.economics import price_book
from tunewright.evaluation.evidence import Record
from tunewright.evaluation.verdict.decision import Verdict, decide
from tunewright.evaluation.verdict.payer import MOST_LINES, Page, page

GOOD, POOR, SURE = candidate(0.97), candidate(0.7), candidate(0.8, sure=0.6)
MUCH = {"requests_per_month": 10_000_000}
LITTLE = {"requests_per_month": 20_000}
TIER = "ministral-3b-2512"
MARKET: dict[str, Any] = {"apis": []}
"""The price book's APIs come into question too."""
FIVE: dict[str, tuple[list[Record], list[Record], dict[str, Any]]] = {
    "switch": (GOOD, POOR, {}),
    "cascade": (SURE, POOR, {}),
    "classical": (candidate(0.99), GOOD, {}),
    "keep-api": (POOR, POOR, {}),
    "cheaper-api": (GOOD, POOR, {"traffic": LITTLE} | MARKET),
}


def written_page(
    served: list[Record],
    svm: list[Record],
    *,
    api: list[Record] | None = None,
    day: date = DAY,
    others: dict[str, list[Record]] | None = None,
    **changes: Any,
) -> tuple[Verdict, Page]:
    """The verdict and its page; only today's API comes into question, unless `apis` says otherwise."""
    spec, evidence = make_spec(**{"traffic": MUCH, "apis": [{}], **changes}), evidence_of(served, svm)
    if api:
        evidence["api"] = api
    evidence |= {f"api {name}": records for name, records in (others or {}).items()}
    comparison = compared(spec, evidence, day=day)
    verdict = decide(spec, comparison, evidence, parity_passed=True)
    return verdict, page(spec, comparison, verdict, price_book(spec.price_file))


def lines(result: Page) -> dict[str, str]:
    """By name; the risks joined."""
    joined: dict[str, str] = {}
    name = ""
    for line in result.lines:
        name = line.name or name
        joined[name] = f"{joined[name]} {line.text}" if name in joined else line.text
    return joined


def sources(result: Page) -> dict[str, tuple[str, str]]:
    return {each.name: (each.value, each.source) for each in result.assumptions}


@pytest.mark.parametrize("decision", FIVE)
def test_each_decision_has_its_lines_and_ten_at_most(decision: str) -> None:
    served, svm, changes = FIVE[decision]
    verdict, result = written_page(served, svm, **changes)
    assert verdict.decision == decision
    assert len(result.lines) <= MOST_LINES == 10
    assert list(lines(result)) == [
        "A month now",
        "A month after",
        "What it takes",
        "When it pays back",
        "How good it is",
        "What could go wrong",
    ]
    assert all(line.text.endswith(".") for line in result.lines)


@pytest.mark.parametrize("decision", FIVE)
def test_each_assumption_says_whose_it_is(decision: str) -> None:
    served, svm, changes = FIVE[decision]
    result = written_page(served, svm, **changes)[1]
    for value, source in sources(result).values():
        assert value
        assert source.startswith(
            ("yours", "default: ", "assumed; ", "price book of ", "measured", "your data", "the tuned", "not counted: ")
        )
    keys = sources(result)
    assert keys["Requests a month"][1] == "yours: traffic.requests_per_month"
    assert keys["Busiest minute"][1] == "default: traffic.peak_to_average"
    assert keys["gpt-4o, a million tokens"] == ("$2.5 in, $1.25 cached, $10 out", "price book of 2026-11-27")
    assert keys["gpt-4o ends"] == ("2027-01-14", "price book of 2026-11-27")
    assert ("ministral-3b-2512, a million tokens" in keys) == (decision == "cheaper-api")


def test_a_switch_without_a_price_of_engineering_says_what_it_may_cost() -> None:
    verdict, result = written_page(GOOD, POOR)
    shown = lines(result)
    assert shown["A month now"] == "$14,000 for 10,000,000 requests to gpt-4o."
    assert shown["A month after"] == ("$80 (1 x Standard_D2s_v5 $70, storage $9.82). That is $13,920 less (99.4 %).")
    assert shown["What it takes"] == (
        "Engineering and reviews (61 hours), which the spec does not price; up to $21,952 for that pays back within "
        "12 months."
    )
    assert "$21,952" in verdict.sentence
    assert shown["When it pays back"] == (
        "The first $10,000 that it takes are earned back after 22 days. It saves $21,952 until gpt-4o ends, and "
        "nothing is counted after that, because no other API that comes into question lasts."
    )
    assert shown["How good it is"] == (
        "The tuned tokenizer is right on 97.0 % of 100 examples (test), 91.5 % at the least; you need 90.0 %."
    )
    assert sources(result)["Engineering, once"] == ("not counted", "default: costs.engineering_usd")
    assert sources(result)["Reviews a month"][1].startswith("not counted: costs.hourly_usd")


def test_a_switch_with_all_prices_says_when_engineering_is_paid_for() -> None:
    costs = {
        "engineering_usd": 20_000,
        "upkeep_usd_per_month": 500,
        "hourly_usd": 30,
        "reviews_per_month": 600,
        "review_minutes": 2,
        "retraining_usd": 5,
    }
    result = written_page(GOOD, POOR, costs=costs)[1]
    shown = lines(result)
    assert shown["A month after"] == (
        "$1,210 (1 x Standard_D2s_v5 $70, reviews $600, retraining $30, other upkeep $500, storage $9.82). "
        "That is $12,790 less (91.4 %)."
    )
    assert shown["What it takes"] == "$20,000 of engineering, once."
    assert shown["When it pays back"].startswith("After 1.6 months; you allow 12. It saves $20,170 until gpt-4o ends")
    assert sources(result)["Engineering, once"] == ("$20,000", "yours: costs.engineering_usd")
    assert sources(result)["Reviews a month"][1].startswith("yours; 600 reviews of 2 minutes")


def test_when_it_pays_back_goes_by_what_would_be_paid_at_that_time() -> None:
    """Against gpt-4o $21,952 within 48 days, against ministral $420 a month after that."""
    costs = {"engineering_usd": 21_952 + 1260}
    (reason,) = (each for each in written_page(GOOD, POOR, costs=costs, **MARKET)[0].reasons if "By itself" in each)
    assert "and has paid for its engineering after 4.6 months" in reason
    small = {"requests_per_month": 1_000_000}
    assert lines(written_page(GOOD, POOR, traffic=small)[1])["When it pays back"].startswith(
        "It saves less than $10,000 in all. It saves $2,096 until"
    )
    lasting = lines(written_page(GOOD, POOR, apis=[{"model": "gpt-6-luna"}])[1])["When it pays back"]
    assert lasting == "The first $10,000 that it takes are earned back after 20 months."
    gone = lines(written_page(GOOD, POOR, day=date(2027, 2, 1), costs={"engineering_usd": 9})[1])
    assert gone["A month before"] == "$14,000 for 10,000,000 requests to gpt-4o, which has ended."
    assert gone["When it pays back"].startswith("Not by what is known here: it is recommended because today's API")


def test_an_api_against_which_the_engineering_does_not_pay_is_a_risk() -> None:
    """The list names gpt-4o alone, so the verdict does not ask for others."""
    verdict, result = written_page(GOOD, POOR, costs={"engineering_usd": 10_000})
    assert verdict.decision == "switch"
    risks = lines(result)["What could go wrong"]
    assert "ministral-3b-2512 would cost $500 a month and was not measured, the cheapest of " in risks
    assert "such: against it, your own model does not pay." in risks
    assert "was not measured, the" not in lines(written_page(GOOD, POOR)[1])["What could go wrong"]


def test_below_the_break_even_the_api_may_cost_less() -> None:
    """Machines come one by one, so it need not at every such volume."""
    risks = lines(written_page(GOOD, POOR)[1])["What could go wrong"]
    assert "Below 50,092 requests a month gpt-4o may cost less." in risks


def test_a_cascade_tells_its_two_bills_and_how_good_what_it_answers_is() -> None:
    shown = lines(written_page(SURE, POOR)[1])
    assert shown["A month after"] == (
        "$5,680 (1 x Standard_D2s_v5 $70, storage $9.82, gpt-4o for the rest $5,600). That is $8,320 less (59.4 %)."
    )
    assert shown["How good it is"].startswith("It answers 60.0 % of test itself and is right on 100.0 % of that")
    assert "what the model leaves to it needs another API" in shown["What could go wrong"]
    assert "could be" not in shown["What could go wrong"], "that is about what it leaves to the API"


def test_the_linear_model_is_named_where_it_is_enough() -> None:
    assert lines(written_page(candidate(0.99), GOOD)[1])["How good it is"].startswith(
        "The linear SVM is right on 97.0 %"
    )


def test_keeping_the_api_costs_nothing_and_says_until_when() -> None:
    shown = lines(written_page(POOR, POOR)[1])
    assert shown["A month after"].startswith("The same $14,000.")
    assert shown["What it takes"] == "Nothing now."
    assert "nothing has to pay back" in shown["When it pays back"]
    assert "gpt-4o leaves OpenAI's API on 2027-01-14: this must be decided anew" in shown["What could go wrong"]
    assert "ministral-3b-2512 would cost $500 a month and was not measured" in shown["What could go wrong"]


def test_an_api_that_is_gone_is_not_kept_for_the_same() -> None:
    verdict, result = written_page(POOR, POOR, day=date(2027, 2, 1))
    assert verdict.decision == "keep-api"
    assert lines(result)["A month after"].startswith("Not known: nothing takes gpt-4o's place yet.")


def test_a_cheaper_api_is_to_be_measured_first_for_the_price_of_the_test() -> None:
    verdict, result = written_page(GOOD, POOR, traffic=LITTLE, **MARKET)
    shown = lines(result)
    assert verdict.measure
    assert shown["What it takes"] == f"Asking {TIER} the 100 test examples, for about $0.01 ({verdict.measure})."
    assert shown["When it pays back"] == f"At once, if {TIER} is good enough."
    assert shown["How good it is"] == f"{TIER} was not measured on your examples; you need 90.0 %."


def with_luna(served: list[Record], **goal: Any) -> tuple[Verdict, Page]:
    """Today's API and a cheaper one, both measured and alike."""
    same = candidate(0.98, splits=("test",))
    listed = [{}, {"model": "gpt-6-luna", "url": "openai"}]
    return written_page(served, POOR, apis=listed, goal={"margin": 0.05, **goal}, api=same, others={"gpt-6-luna": same})


def test_a_cheaper_api_that_was_measured_is_moved_to() -> None:
    verdict, result = with_luna(POOR)
    shown = lines(result)
    assert (verdict.decision, verdict.measure) == ("cheaper-api", None)
    assert shown["A month after"] == "$580, for gpt-6-luna: $13,420 less (95.9 %)."
    assert shown["When it pays back"] == "At once."
    assert shown["How good it is"].startswith("gpt-6-luna is right on 98.0 % of 100 examples")
    assert sources(result)["gpt-6-luna, a million tokens"][0] == "$0.1 in, $0.01 cached, $0.5 out"


def test_a_cascade_whose_rest_goes_to_another_api_names_that() -> None:
    verdict, result = with_luna(SURE)
    assert verdict.decision == "cascade", verdict.sentence
    shown = lines(result)
    assert "gpt-6-luna for the rest $232" in shown["A month after"]
    assert "$268 less than gpt-6-luna alone" in shown["A month after"]
    risks = shown["What could go wrong"]
    assert "gpt-4o leaves OpenAI's API on 2027-01-14: the move must be made before that day." in risks
    assert "needs another API" not in risks, "gpt-6-luna stays"
    assert "Against gpt-4o the whole cascade is +0.0 points on test, and could be -" in risks
    assert "-18.0 points" not in risks, "that is the model answering everything"


def test_a_saving_counts_against_the_cheapest_api_that_passes() -> None:
    verdict, result = with_luna(GOOD, accept_worse=True)
    shown = lines(result)
    assert verdict.decision == "switch"
    assert "$13,920 less (99.4 %), and $500 less than gpt-6-luna alone." in shown["A month after"]
    budget = shown["What it takes"].partition("up to ")[2].split()[0]
    assert f"pays for up to {budget} of engineering" in verdict.sentence


def test_the_risks_name_old_prices_doubt_and_drift() -> None:
    risks = lines(written_page(GOOD, POOR, day=date(2027, 2, 1))[1])["What could go wrong"]
    assert "gpt-4o left OpenAI's API on 2027-01-14: the move can't wait." in risks
    assert "The prices are 66 days old" in risks
    assert risks.endswith("tunewright monitor drift.")


def test_an_accuracy_that_could_be_below_the_goal_is_mentioned() -> None:
    loose = {"accuracy": 0.95, "margin": 0.1}
    assert (
        "its accuracy on test could be 91.5 %" in lines(written_page(GOOD, POOR, goal=loose)[1])["What could go wrong"]
    )
    assert "could be" not in lines(written_page(GOOD, POOR)[1])["What could go wrong"]


def test_the_api_beside_the_model_is_reported_where_it_was_measured() -> None:
    worse = {"accuracy": 0.9, "accept_worse": True}
    risks = lines(written_page(GOOD, POOR, api=candidate(0.98, splits=("test",)), goal=worse)[1])["What could go wrong"]
    assert "Against gpt-4o it is -1.0 points on test, and could be -5.4." in risks
    assert "not measured" not in risks
    assert "gpt-4o was not measured" in lines(written_page(GOOD, POOR)[1])["What could go wrong"]


def test_a_users_own_price_book_is_named(tmp_path: Path) -> None:
    book = tmp_path / "prices.yaml"
    book.write_text("apis: {gpt-4o: {usd_in: 3, usd_out: 12}}", "utf-8")
    result = written_page(GOOD, POOR, prices=str(book))[1]
    assert f"your book ({book}) over the price book of" in sources(result)["gpt-4o, a million tokens"][1]
