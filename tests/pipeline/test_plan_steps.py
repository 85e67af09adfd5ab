"""Plans of single steps: what fits, which machine is large enough, and how times and money follow from the work."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import example, make_spec
from tests.pipeline.made import sizes
from tunewright.config import Spec
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.economics import price_book
from tunewright.economics.memory import GIB
from tunewright.economics.speed import Range
from tunewright.pipeline.planning.machines import HERE, Machine, Speed, priced_machine
from tunewright.pipeline.planning.project import ApiForecast, _api_forecasts
from tunewright.pipeline.planning.steps import START, Memory, StepPlan, StepsPlan, plan_step
from tunewright.pipeline.planning.times import (
    API,
    API_AT_ONCE,
    AT_ONCE,
    ROOM,
    PlannedJob,
    candidate_seconds,
    seconds_of,
    served_seconds,
)
from tunewright.pipeline.steps import STEPS, steps_to

MACHINE = Machine(HERE, 16 * GIB, False, None, True, 0.0, Speed(1e11, 5e11, 2e10))


def job(model: str = "phi-3-mini", tests: int = 320, **changes: Any) -> PlannedJob:
    return PlannedJob(make_spec(**changes), sizes(model), 576, 64, (tests,), 300, 60, 1.0)


def planned(step: str, of: PlannedJob, machine: Machine = MACHINE, **more: Any) -> StepPlan:
    settings = {"known": {}, "api_usd": {}, "training": None, "count": 1} | more
    return plan_step(STEPS[step], of, machine, price_book(), **settings)


def test_every_step_of_the_pipeline_can_be_planned() -> None:
    spec = make_spec(judge={"model": "gpt-4o"}, api={"url": "https://example.com/v1"})
    of = replace(job(), spec=spec)
    for step in steps_to(spec, "bundle"):
        known = {"train": Range(60, 120)} if step.name == "train" else {}
        found = planned(step.name, of, known=known)
        assert found.hours
        assert 0 < found.hours.low < found.hours.high, step.name
        assert found.fits, step.name
        assert found.usd.high == 0, "this machine is paid for already"


def test_what_does_not_fit_names_its_remedy_and_a_machine_that_would_hold_it() -> None:
    found = planned("export", job("mistral-7b", export={"precision": "fp32"}))
    assert not found.fits
    assert found.memory.summary == f"{found.memory.peak_gib:.1f} of 16.0 GiB"
    assert "GiB of fp32 weights, keys and values. Serve fewer bytes: export.precision=int8" in found.why
    assert found.why.endswith("Standard_D8s_v3 is large enough.")
    t4 = priced_machine("Standard_NC4as_T4_v3", price_book())
    on_gpu = planned("evaluate", job("llama-3-8b"), t4)
    assert "on the GPU" in on_gpu.memory.summary
    assert "Standard_NC24ads_A100_v4 is large enough" in on_gpu.why


def test_a_training_is_what_was_counted() -> None:
    memory = Memory(20.0, 13.5, True, "a batch is large", holder="Standard_NC24ads_A100_v4")
    t4 = priced_machine("Standard_NC4as_T4_v3", price_book())
    found = planned("train", job(), t4, training=memory, known={"train": Range(3600, 7200)}, count=2)
    assert not found.fits
    assert "Standard_NC24ads_A100_v4 is large enough" in found.why
    assert found.hours
    assert found.hours.high == pytest.approx(2 + START.high / 3600)
    assert found.usd.high == pytest.approx(2 * 0.526 * found.hours.high)
    unable = Memory(5.0, 13.5, True, "it has no bfloat16; train.precision=float16 would do", able=False)
    assert planned("train", job(), t4, training=unable).why == f"{unable.why}."
    assert planned("train", job(), t4, training=unable).hours is None


def test_a_rented_machine_is_paid_for_while_a_step_begins() -> None:
    small = priced_machine("Standard_D4s_v5", price_book())
    found = planned("verdict", job(), small, api_usd={"verdict": Range(1.0, 2.0)})
    assert found.hours
    assert found.usd.low == pytest.approx(1.0 + 0.192 * found.hours.low)
    assert found.hours.low > START.low / 3600


def test_totals_are_sums_and_misfits_are_listed() -> None:
    fine, bad = planned("verdict", job()), planned("export", job("mistral-7b", export={"precision": "fp32"}))
    both = StepsPlan([fine, bad])
    assert fine.hours and bad.hours
    assert both.hours.high == pytest.approx(fine.hours.high + bad.hours.high)
    assert both.misfits == [bad]


def test_a_prompt_costs_products_and_a_written_token_bandwidth() -> None:
    of = job()
    speed = Speed(1e11, 5e11, 2e10)
    inner = of.sizes.parameters - of.sizes.vocabulary
    count = 10.0
    found = served_seconds(of, speed, count, on_gpu=False)
    by_hand = 2 * inner * (60 * count + 300) / 5e11 + count * (of.sizes.parameters / 2e10 + 0.01)
    assert found == pytest.approx(by_hand, rel=0.02)
    longer = served_seconds(replace(of, own=120), speed, count, on_gpu=False)
    assert longer - found == pytest.approx(2 * inner * 60 * count / 5e11)
    written = served_seconds(replace(of, written=21), speed, count, on_gpu=False)
    assert written - found == pytest.approx(count * 20 * of.sizes.parameters / 2e10, rel=0.02)


def test_nf4_on_a_cpu_is_made_dense_in_each_pass() -> None:
    speed, of = Speed(1e11, 5e11, 2e10, nf4=3e8), job()
    dense, packed = (candidate_seconds(of, speed, 320, nf4=each, on_gpu=False) for each in (False, True))
    inner = of.sizes.parameters - of.sizes.vocabulary
    at_once = ROOM / (2 * of.sizes.cache * of.own)
    assert 32 < at_once < AT_ONCE
    batches = math.ceil(320 / at_once)
    assert packed - dense == pytest.approx(batches * (inner / 3e8 - 1.47 * inner / 2e10), rel=0.01)
    assert candidate_seconds(of, replace(speed, gpu_bytes=3e11), 320, nf4=True, on_gpu=True) < dense


def test_a_part_is_answered_on_a_cpu_and_all_on_a_gpu() -> None:
    t4 = priced_machine("Standard_NC4as_T4_v3", price_book())
    for model in ("phi-3-mini", "smollm2-135m"):
        few, many = (seconds_of(STEPS["evaluate"], job(model, tests=tests), MACHINE, {}) for tests in (400, 4000))
        assert few and many
        assert few.high < many.high < 1.2 * few.high, model
    few, many = (seconds_of(STEPS["evaluate"], job(tests=tests), t4, {}) for tests in (400, 4000))
    assert few and many
    assert many.high > 5 * few.high


def test_apis_are_asked_so_many_examples_of_each_test() -> None:
    asked = {"judge": {"model": "gpt-4o", "sample": 100}, "api": {"url": "https://example.com/v1"}}
    sampled, whole = make_spec(**asked, baseline={"sample": 50}), make_spec(**asked)

    def answers(step: str, spec: Spec, *splits: int) -> float:
        """That the time of a step is enough for, beside the two seconds of its start."""
        found = seconds_of(STEPS[step], replace(job(), spec=spec, splits=splits), MACHINE, {})
        assert found
        return (found.low * 2 - 2) * API_AT_ONCE / API

    assert answers("baseline", sampled, 400, 400, 9) == pytest.approx(50 + 50 + 9)
    assert answers("baseline", whole, 400, 400, 9) == pytest.approx(809)
    assert answers("judge", whole, 400, 400, 9) == pytest.approx(2 * (100 + 100 + 9))


def test_what_was_measured_is_not_estimated() -> None:
    assert seconds_of(STEPS["check"], job(), replace(MACHINE, speed=None), {"check": Range(1, 2)}) == Range(1, 2)


def test_a_gpu_that_nobody_has_timed_gives_no_hours() -> None:
    here = replace(MACHINE, has_gpu=True)
    found = {step: planned(step, job(), here) for step in ("check", "train", "export", "evaluate", "parity")}
    assert [step for step, each in found.items() if each.hours is None] == ["train", "evaluate"]
    assert all(each.fits for each in found.values())
    assert planned("parity", job(export={"runtime": "vllm"}), here).hours is None


def forecasts_of(folder: Path, **budgets: float) -> dict[str, ApiForecast]:
    """Of 5,000 questions to gpt-4o, and of a judge that sees 100 of each test."""
    rows = [example(f"{'word ' * 400}{n}") for n in range(2500)]
    dataset = Dataset(rows[:10], rows[:10], {"one": rows, "two": rows})
    save_dataset(folder / "split", dataset)
    judge = {"model": "house", "url": "http://127.0.0.1:1/v1", "priced_as": "gpt-4o", "rubric": "Which is better?"}
    spec = make_spec(
        api={"model": "gpt-4o", "url": "http://127.0.0.1:1/v1"},
        baseline={"budget_usd": budgets["baseline"]},
        judge={**judge, "budget_usd": budgets["judge"]},
    )
    return _api_forecasts(spec, dataset, job(tests=5000), folder / "split", folder, price_book())


def test_no_step_pays_an_api_more_than_its_budget(tmp_path: Path) -> None:
    found = forecasts_of(tmp_path, baseline=0.5, judge=0.01)
    assert (found["baseline"].paid, found["judge"].paid) == (Range(0.5, 0.5), Range(0.0, 0.01))
    stops = [each.stop(name) for name, each in found.items()]
    assert stops[0].startswith("baseline would stop at its budget, baseline.budget_usd=0.5: its forecast is $3.")
    assert stops[1].startswith("judge may stop at its budget, judge.budget_usd=0.01")


def test_what_earlier_runs_have_paid_is_no_longer_left() -> None:
    found = ApiForecast(usd=3.0, least=1.5, budget=5.0, spent=4.0)
    assert found.paid == Range(1.0, 1.0)
    assert found.stop("baseline") == (
        "baseline would stop at its budget, baseline.budget_usd=5, of which $4.00 are spent: its forecast is $3.00."
    )


def test_what_a_budget_allows_is_a_range_around_the_forecast(tmp_path: Path) -> None:
    found = forecasts_of(tmp_path, baseline=100, judge=100)
    assert found["baseline"].paid.high == pytest.approx(4 * found["baseline"].paid.low)
    assert not any(each.stop(name) for name, each in found.items())
    asked = 400 * price_book().api("gpt-4o").usd(216, 1)
    assert found["judge"].usd == pytest.approx(asked, rel=0.02), "100 pairs of each of two tests, both ways"
    assert found["judge"].paid.low == 0
