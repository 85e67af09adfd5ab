"""The ladder's rules, on candidates whose runs are made up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.pipeline.made import encoder_folder
from tunewright.api import pipeline
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.economics.speed import Range
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.ladder import page, tried
from tunewright.ladder import search as module
from tunewright.ladder.cascades import Cascade, CascadePart
from tunewright.ladder.forecast import CandidateForecast
from tunewright.ladder.page import write_page
from tunewright.ladder.search import Ladder, Steps, climb
from tunewright.ladder.tried import summarise

NAMES = ("small", "middle", "large")


@dataclass
class Run:
    """A job that ended with a verdict."""

    name: str
    data: dict[str, Any]
    folders: dict[str, Path] = field(default_factory=lambda: {"verdict": Path("/nowhere/verdict-1")})


def ended(
    decision: str, good_enough: str | None = None, usd: float = 100.0, accuracy: float = 0.6, **missed: str
) -> dict[str, Any]:
    """A verdict that misses some targets, by name, with what was found."""
    targets = [{"name": "parity", "met": True, "found": ""}]
    targets += [{"name": name, "met": False, "found": result} for name, result in missed.items()]
    verdict = {
        "decision": decision,
        "sentence": f"So {decision}.",
        "good_enough": good_enough,
        "usd_per_month": usd,
        "targets": targets,
        "p95_ms": 5.0,
    }
    served = {
        "cost": {"usd_per_month": usd},
        "scores": {"test": {"primary_metric": asdict(Interval(accuracy, 0.5, 0.7))}},
    }
    return {"verdict": verdict, "comparison": {"candidates": {SERVED: served}}}


MISSED, MET = ended("keep-api", accuracy_on_test="60 %"), ended("switch", "served", accuracy=0.95)


def known(hours: float = 0.1, usd: float = 1.0, serving: float | None = 300.0) -> Any:
    """A forecast for every candidate."""

    def forecast(spec: Spec, last: Any, earlier: Any) -> CandidateForecast:  # noqa: ARG001
        return CandidateForecast(
            spec.model, Range(hours, hours), Range(hours, hours), Range(usd, usd), "so long", "so much", serving
        )

    return forecast


@dataclass
class Found:
    """A cascade of two candidates that is estimated to do the job."""

    first: CascadePart
    second: CascadePart
    usd_per_month: float = 60.0
    good: bool = True
    name: str = "small → middle"
    summary: str = "It would do."


def of_middle(first: CascadePart, second: CascadePart) -> Found | str:
    return Found(first, second) if second.tried.name == "middle" else "none"


@pytest.fixture(autouse=True)
def no_cascades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "weigh", lambda first, second: "none")  # noqa: ARG005


def climbed(
    *verdicts: dict[str, Any],
    every: bool = False,
    search: dict[str, float] | None = None,
    forecast: Any = None,
    ready: tuple[str, ...] = (),
    rented: bool = False,
) -> tuple[Run, Ladder, list[str]]:
    """(the run that stands, how it came to it, the candidates that were run, in order) of three whose runs end so."""
    spec = make_spec(search=search or {}).model_copy(update={"candidates": NAMES})
    ran: list[str] = []
    of_name = dict(zip(NAMES, verdicts, strict=False))

    def run(each: Spec) -> Run:
        ran.append(each.model)
        return Run(each.model, of_name[each.model])

    steps = Steps(run, made_never, lambda each: each.model in ready, forecast or known(), rented)
    return (*climb(spec, steps, every=every), ran)


def made_never(cascade: Cascade) -> Run:
    raise AssertionError(cascade)


def test_the_page_shows_the_accuracy_to_expect_of_a_candidate_that_was_not_tried(tmp_path: Path) -> None:
    _, ladder, _ = climbed(MET)
    dearer = [replace(each, worth="Expect 90 to 95 %.") for each in ladder.dearer]
    page = write_page(make_spec(), replace(ladder, dearer=dearer), tmp_path)
    assert page.read_text("utf-8").count("Expect 90 to 95 %.") == len(dearer) == 2


def test_the_first_that_meets_every_target_ends_the_ladder() -> None:
    last, result, ran = climbed(MISSED, MET)
    assert ran == ["small", "middle"]
    assert (last.name, result.best, [each.name for each in result.dearer]) == ("middle", "middle", ["large"])
    assert result.summary == [
        "small misses accuracy_on_test (60 %).",
        "middle meets every target.",
        "No cascade small → middle: none.",
        "large would take so long to try; serving: so much.",
    ]
    assert result.sentence == (
        "So switch. small, the candidate below it, misses accuracy_on_test: on the hardest split it is right on 60.0 %."
    )


def test_the_cheapest_may_do() -> None:
    last, result, ran = climbed(MET)
    assert (ran, last.name, result.sentence) == (["small"], "small", "So switch.")
    assert [each.name for each in result.dearer] == ["middle", "large"]


def test_all_are_tried_where_none_passes_and_the_dearest_stands() -> None:
    last, result, ran = climbed(MISSED, MISSED, MISSED)
    assert ran == list(NAMES)
    assert (last.name, result.best, result.dearer) == ("large", "large", [])
    assert result.stopped == "No candidate is left to try; the verdict on large stands."


def test_where_none_passes_the_one_whose_verdict_costs_least_stands() -> None:
    cascade = ended("cascade", usd=40, accuracy_on_test="80 %")
    last, result, ran = climbed(cascade, MISSED, MISSED, forecast=known(serving=10.0))
    assert ran == ["small", "middle", "large", "small"], "the first is the latest again"
    assert (last.name, result.best) == ("small", "small")


def test_a_cascade_with_the_api_that_costs_less_than_serving_the_next_ends_the_ladder() -> None:
    cascade = ended("cascade", usd=40, accuracy_on_test="80 %")
    last, result, ran = climbed(cascade, MET, forecast=known(serving=50.0))
    assert ran == ["small"]
    assert last.name == "small"
    assert "with the API behind it does the job for $40 a month" in result.stopped
    assert climbed(cascade, MET, MET, forecast=known(serving=50.0), every=True)[2][:3] == list(NAMES)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("decision", ["keep-api", "switch"])
def test_a_cascade_with_the_api_that_costs_less_than_the_one_that_does_it_alone_stands(
    decision: str, every: bool
) -> None:
    """The forecast of the next one promised less than its verdict then cost, or all are tried."""
    cascade = ended("cascade", usd=40, accuracy_on_test="80 %")
    alone = ended(decision, "served", usd=100, accuracy=0.95)
    last, result, ran = climbed(cascade, alone, MISSED, forecast=known(serving=30.0), every=every)
    assert ran[:2] == ["small", "middle"]
    assert (last.name, result.best, result.sentence) == ("small", "small", "So cascade.")
    dearer = ended("cascade", usd=400, accuracy_on_test="80 %")
    assert climbed(dearer, alone, MISSED, forecast=known(serving=30.0), every=every)[1].best == "middle"
    _, below, _ = climbed(alone, cascade, MISSED, every=True)
    assert below.sentence == ("So cascade. small, the candidate below it, meets every target, and costs $100 a month.")


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (ended("classical", "svm", a="60 %"), "the linear SVM is good enough, so nothing dearer is tried."),
        (ended("keep-api", "svm", a="60 %"), "the linear SVM is good enough"),
        (ended("switch", "served", a="88 %"), "small is as good as the API all the same: switch."),
        (ended("cheaper-api", "served", a="88 %"), "as good as the API all the same: cheaper-api."),
        (ended("keep-api", P95="2,000 ms"), "A dearer candidate would be slower still."),
    ],
)
def test_where_a_dearer_one_would_not_help_none_is_tried(ending: dict[str, Any], expected: str) -> None:
    last, result, ran = climbed(ending)
    assert ran == ["small"]
    assert last.name == "small"
    assert expected in result.summary[0]


def test_a_slow_one_that_is_not_good_either_is_followed_by_the_next() -> None:
    assert climbed(ended("keep-api", P95="2,000 ms", a="60 %"), MET)[2] == ["small", "middle"]


def test_the_last_may_pass() -> None:
    _, result, ran = climbed(MISSED, MISSED, MET)
    assert ran == list(NAMES)
    assert (result.best, result.stopped) == ("large", "")
    assert result.sentence.startswith("So switch. middle, the candidate below it")


def test_with_all_every_one_is_tried_and_the_cheapest_that_does_it_stands() -> None:
    last, result, ran = climbed(MISSED, MET, ended("switch", "served", usd=300, accuracy=0.99), every=True)
    assert ran == [*NAMES, "middle"]
    assert (last.name, result.best, result.dearer) == ("middle", "middle", [])


@pytest.mark.parametrize(("accuracy", "best"), [(0.96, "middle"), (0.98, "large")])
def test_at_the_same_cost_the_better_one_stands_beyond_the_margin(accuracy: float, best: str) -> None:
    _, result, _ = climbed(MISSED, MET, ended("switch", "served", accuracy=accuracy), every=True)
    assert result.best == best
    better = (
        "meets every target too, but is worse by more than goal.margin: on the hardest split it is right on 95.0 %."
    )
    assert (better in result.sentence) == (best == "large")


def test_one_below_that_does_the_job_too_for_more_is_reported_with_its_cost() -> None:
    _, result, _ = climbed(ended("switch", "served", usd=300, accuracy=0.99), MET, MISSED, every=True)
    assert result.sentence == (
        "So switch. small, the candidate below it, meets every target too, and costs $300 a month."
    )


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"minutes": 5.0}, "middle was not tried: it may take 6 min, and 0 of search.minutes = 5 are over."),
        ({"usd": 1.5}, "middle was not tried: it may cost $1.00, and about $1.00 of search.usd = 1.5 are spent."),
    ],
)
@pytest.mark.parametrize("every", [False, True])
def test_a_budget_ends_the_search(search: dict[str, float], expected: str, every: bool) -> None:
    last, result, ran = climbed(MISSED, MET, search=search, every=every, rented="usd" in search)
    assert (ran, last.name, result.stopped) == (["small"], "small", expected)
    assert [each.name for each in result.dearer] == ["middle", "large"]


def test_money_already_spent_counts() -> None:
    assert climbed(MISSED, MISSED, MET, search={"usd": 2.5}, rented=True)[2] == ["small", "middle"]


def test_a_candidate_of_unknown_cost_is_tried_only_within_the_budget() -> None:
    def first_alone(spec: Spec, last: Any, earlier: Any) -> CandidateForecast:
        if spec.model == "small":
            return known()(spec, last, earlier)
        return CandidateForecast(spec.model, None, None, None, "nobody can tell", "neither", None)

    assert climbed(MISSED, MET, search={"usd": 1.5}, forecast=first_alone, rented=True)[2] == ["small", "middle"]
    _, result, ran = climbed(MISSED, MET, search={"usd": 0.5}, forecast=first_alone, rented=True)
    assert (ran, result.stopped) == (["small"], "middle was not tried: about $1.00 of search.usd = 0.5 are spent.")


def test_on_ones_own_machine_nothing_is_paid() -> None:
    assert climbed(MISSED, MISSED, MET, search={"usd": 0.5})[2] == list(NAMES)


def test_an_existing_run_costs_nothing() -> None:
    assert climbed(MISSED, MET, search={"usd": 0.5}, ready=("middle",), rented=True)[2] == ["small", "middle"]


def test_a_cascade_that_costs_less_than_the_dearer_of_its_parts_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: dict[str, Any] = {"good": True, "usd_per_month": 60.0}
    monkeypatch.setattr(module, "weigh", lambda first, second: Found(first, second, **costs))
    made: list[str] = []

    def make(cascade: Any) -> Run:
        made.append(cascade.name)
        return Run(cascade.name, ended("switch", "served", usd=60.0, accuracy=0.94))

    spec = make_spec().model_copy(update={"candidates": NAMES})
    of_name = {"small": MISSED, "middle": MET}
    steps = Steps(lambda each: Run(each.model, of_name[each.model]), make, forecast=known())
    last, result = climb(spec, steps)
    assert (last.name, result.best, made) == ("small → middle", "small → middle", ["small → middle"])
    assert [(each.name, each.kind) for each in result.tried] == [
        ("small", "decoder"),
        ("middle", "decoder"),
        ("small → middle", "cascade"),
    ]
    costs["usd_per_month"] = 99.5
    made.clear()
    assert climb(spec, steps)[1].best == "middle", "by less than a hundredth it is not worth two models"
    assert not made
    costs |= {"good": False, "usd_per_month": 10.0}
    assert climb(spec, steps)[1].best == "middle"
    assert not made


@pytest.mark.parametrize(("middle", "best"), [(MET, "middle"), (ended("keep-api", usd=50.0, a="60 %"), "large")])
def test_a_candidate_whose_cascade_can_not_be_made_is_tried_all_the_same(
    middle: dict[str, Any], best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(cascade: Any) -> Run:
        raise UserError(f"There is no room for {cascade.name}.", fix="Make some.")

    monkeypatch.setattr(module, "weigh", of_middle)
    spec = make_spec().model_copy(update={"candidates": NAMES})
    verdicts = {"small": MISSED, "middle": middle, "large": ended("switch", "served", usd=300.0)}
    steps = Steps(lambda each: Run(each.model, verdicts[each.model]), make, forecast=known())
    last, result = climb(spec, steps, every=True)
    assert (last.name, result.best, result.left_out) == (best, best, {})
    assert [each.name for each in result.tried] == list(NAMES)
    assert result.dearer == []
    assert result.cascades[:2] == [
        "It would do.",
        "No cascade with middle was made: There is no room for small → middle. Make some.",
    ]


def test_where_neither_part_does_it_a_cascade_of_both_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "weigh", of_middle)
    spec = make_spec().model_copy(update={"candidates": NAMES})
    steps = Steps(lambda each: Run(each.model, MISSED), lambda cascade: Run(cascade.name, MET | {}), forecast=known())
    assert climb(spec, steps)[1].best == "small → middle"


def test_a_candidate_that_does_the_job_ends_the_search_though_its_cascade_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "weigh", of_middle)
    spec = make_spec().model_copy(update={"candidates": NAMES})
    verdicts, ran = {"small": MISSED, "middle": MET, "large": MET}, []

    def run(each: Spec) -> Run:
        ran.append(each.model)
        return Run(each.model, verdicts[each.model])

    steps = Steps(run, lambda cascade: Run(cascade.name, MISSED), forecast=known())
    assert climb(spec, steps)[1].best == "middle"
    assert ran == ["small", "middle", "middle"], "the second time it becomes the latest again"
    verdicts["middle"] = ended("cascade", usd=40.0, a="80 %")
    ran.clear()
    assert "middle with the API behind it does the job for $40" in climb(spec, steps)[1].stopped
    assert "large" not in ran


def test_a_cascade_takes_the_time_of_its_parts_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def outputs(of: str, *steps: str) -> dict[str, Path]:
        return {step: Path("/nowhere", f"{step}-{of}") for step in steps}

    def read_manifest(folder: Path, *, whole: bool) -> Any:  # noqa: ARG001
        return SimpleNamespace(wall_seconds=taken[folder.name.partition("-")[2]])

    taken = {"small": 60.0, "middle": 600.0, "both": 6.0}
    monkeypatch.setattr(tried, "read_manifest", read_manifest)
    monkeypatch.setattr(module, "weigh", of_middle)
    made_anew = ("export", "parity", "verdict", "bundle")
    folders = {name: outputs(name, "train", "evaluate", *made_anew) for name in NAMES[:2]}
    joined = folders["middle"] | outputs("both", *made_anew)
    spec = make_spec().model_copy(update={"candidates": NAMES[:2]})
    steps = Steps(
        lambda each: Run(each.model, MISSED, folders[each.model]),
        lambda cascade: Run(cascade.name, MET, joined),
        forecast=known(),
    )
    minutes = [each.minutes for each in climb(spec, steps)[1].tried]
    assert minutes == pytest.approx([6 * 1, 6 * 10, 6 * 1 + 6 * 10 + 4 * 0.1])


@pytest.mark.parametrize("asked", [{"force": True}, {"from_step": "train"}])
def test_a_candidate_that_the_search_comes_back_to_is_not_trained_again(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, str | None, bool]] = []

    def bring_up_to_date(candidate: Spec, _step: str, _runs: Any, from_step: Any, force: bool, *_: object) -> None:
        ran.append((candidate.model, from_step, force))

    def came_back(spec: Spec, steps: Steps[Any], *, every: bool) -> tuple[Any, None]:  # noqa: ARG001
        one, other, _ = spec.each_candidate
        return [steps.run(each) for each in (one, other, one)][-1], None

    monkeypatch.setattr(pipeline, "bring_up_to_date", bring_up_to_date)
    monkeypatch.setattr(pipeline, "locate", lambda *_: "")
    monkeypatch.setattr(module, "climb", came_back)
    monkeypatch.setattr(page, "write_page", lambda *_: None)
    pipeline.run(make_spec(tmp_path).model_copy(update={"candidates": NAMES}), every=True, **asked)
    first = (asked.get("from_step"), asked.get("force", False))
    assert ran == [("small", *first), ("middle", *first), ("small", None, False)]


def test_an_encoder_is_a_candidate_like_others(tmp_path: Path) -> None:
    spec = make_spec().model_copy(update={"candidates": (str(encoder_folder(tmp_path / "bert")), "smollm2-135m")})
    run = Steps(
        lambda each: Run(each.model_name, MET if each.model == "smollm2-135m" else MISSED), made_never, forecast=known()
    )
    last, result = climb(spec, run)
    assert [(each.name, each.kind) for each in result.tried] == [("bert", "encoder"), ("smollm2-135m", "decoder")]
    assert (last.name, result.left_out) == ("smollm2-135m", {})


def test_a_candidate_that_can_t_do_the_task_is_left_out_with_its_reason() -> None:
    task = {"kind": "generate", "instruction": "Answer."}
    spec = make_spec(task=task).model_copy(update={"candidates": ("linear", "all-minilm", "smollm2-135m")})
    steps = Steps(lambda each: Run(each.model, MET), made_never, forecast=known())
    last, result = climb(spec, steps)
    assert last.name == "smollm2-135m"
    assert result.sentence == "So switch. all-minilm, the candidate below it, is left out; the report says why."
    assert result.summary[0].startswith("linear is left out: A linear model can't do this task: it is generate")
    assert result.summary[1].startswith("all-minilm is left out: all-minilm is an encoder, and this task is generate")
    with pytest.raises(UserError, match="can't write"):
        climb(spec.model_copy(update={"candidates": ("linear", "bert-base")}), steps)


def failing(*faults: str | None, step: str = "train") -> tuple[str, dict[str, str], list[str]]:
    """(the best, what was left out, what was begun) of three candidates whose runs fail so at a step, or meet all
    targets."""
    began: list[str] = []
    of_name = dict(zip(NAMES, faults, strict=True))

    def run(each: Spec) -> Run:
        began.append(each.model)
        if fault := of_name[each.model]:
            error = UserError(fault, fix="Mend it.")
            error.step = step
            raise error
        return Run(each.model, MET)

    spec = make_spec().model_copy(update={"candidates": NAMES})
    _, result = climb(spec, Steps(run, made_never, forecast=known()))
    return result.best, result.left_out, began


def test_a_candidate_that_proves_unable_is_left_out_with_its_reason() -> None:
    best, left_out, began = failing("Texts are too long.", None, None)
    assert (best, left_out, began) == ("middle", {"small": "Texts are too long. Mend it."}, ["small", "middle"])


def test_a_fault_that_comes_again_ends_the_search() -> None:
    with pytest.raises(UserError, match="The data are broken"):
        failing("The data are broken.", "The data are broken.", None)


def test_faults_of_two_candidates_may_name_folders_of_their_own() -> None:
    with pytest.raises(UserError, match="bbbbbbbbbbbb"):
        failing("No room for runs/train-aaaaaaaaaaaa.", "No room for runs/train-bbbbbbbbbbbb.", None)


def test_a_fault_of_the_data_ends_the_search_at_once() -> None:
    with pytest.raises(UserError, match="D002"):
        failing("The data can't be used: D002 train: 1 rows have a label the spec lacks.", None, None)
    too_long = "The data can't be used: D020 train: 1 rows are longer than 512 tokens."
    assert failing(too_long, None, None, step="split")[0] == "middle"


@pytest.mark.parametrize("step", ["split", "baseline"])
def test_a_fault_of_a_step_that_all_candidates_share_ends_the_search_at_once(step: str) -> None:
    with pytest.raises(UserError, match="does not answer"):
        failing("The API does not answer.", None, None, step=step)


def test_where_all_fail_the_last_fault_is_reported() -> None:
    with pytest.raises(UserError, match="three"):
        failing("one", "two", "three")


def test_a_verdict_names_the_targets_that_were_missed() -> None:
    result = summarise("it", "encoder", Run("it", ended("keep-api", a="1 %", b="2 %")))
    assert result.missed == {"a": "1 %", "b": "2 %"}
    assert result.summary == "it misses a (1 %); b (2 %)."
    assert not result.good
    assert replace(result, missed={}, ends="it does.").summary == "it does."
