from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LABELS, example, make_spec
from tests.planning.made import encoder_folder
from tunewright import ladder
from tunewright.assess.speed import Range
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.errors import UserError
from tunewright.ladder import NextStep, Rung, climb
from tunewright.spec import Spec
from tunewright.train.plan import Here

NEXT = NextStep("large", "2.0 h and $1.50 on a card", "about $400 a month on 1 x a card")
NEXT_STEP = ladder.next_step


@dataclass
class Run:
    """A job that ended with a verdict."""

    model: str
    verdict: dict[str, Any]
    split: Path = Path("/nowhere")

    @property
    def data(self) -> dict[str, Any]:
        return {"verdict": self.verdict}


def verdict(decision: str, good_enough: str | None = None, usd: float = 100.0, **missed: str) -> dict[str, Any]:
    """A verdict that misses some targets, by name, with what was found."""
    targets = [{"name": "parity", "met": True, "found": ""}]
    targets += [{"name": name, "met": False, "found": found} for name, found in missed.items()]
    return {"decision": decision, "shown": decision, "good_enough": good_enough, "usd_per_month": usd,
            "targets": targets}  # fmt: skip


@pytest.fixture(autouse=True)
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "next_step", lambda spec, last: NextStep(spec.model, NEXT.training, NEXT.serving))  # noqa: ARG005


def climbed(*verdicts: dict[str, Any]) -> tuple[Run, ladder.Ladder, list[str]]:
    """A ladder of three models whose runs end so, and the models that were run, in order."""
    spec = make_spec().model_copy(update={"models": ("small", "middle", "large")})
    ran: list[str] = []
    of_model = dict(zip(spec.models, verdicts, strict=False))

    def run(rung: Spec) -> Run:
        ran.append(rung.model)
        return Run(rung.model, of_model[rung.model])

    return (*climb(spec, run), ran)


MISSED, MET = verdict("keep-api", accuracy="60 %"), verdict("switch", "served")


def test_the_first_that_meets_every_target_ends_the_ladder() -> None:
    last, found, ran = climbed(MISSED, MET)
    assert ran == ["small", "middle"]
    assert (last.model, found.best, found.next) == ("middle", "middle", NEXT)
    assert found.rungs[0] == Rung("small", "keep-api", 100.0, ["accuracy (60 %)"], "")
    assert found.told == [
        "small misses accuracy (60 %).",
        "middle meets every target.",
        "The next step would be large: training 2.0 h and $1.50 on a card; serving about $400 a month on 1 x a card.",
    ]


def test_all_are_tried_where_none_passes_and_the_largest_stands() -> None:
    last, found, ran = climbed(MISSED, MISSED, MISSED)
    assert ran == ["small", "middle", "large"]
    assert (last.model, found.best, found.next) == ("large", "large", None)
    assert found.told[-1] == "No model is left to try; the verdict on large stands."


def test_where_none_passes_the_one_whose_verdict_costs_least_stands() -> None:
    cascade = verdict("cascade", usd=40, accuracy="80 %")
    last, found, ran = climbed(cascade, MISSED, MISSED)
    assert ran == ["small", "middle", "large", "small"], "the first is the latest again"
    assert (last.model, found.best) == ("small", "small")


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (verdict("classical", "svm", accuracy="60 %"), "Something simpler is good enough"),
        (verdict("keep-api", "svm", accuracy="60 %"), "Something simpler is good enough"),
        (verdict("switch", "served", accuracy="88 %"), "It is as good as the API all the same: switch."),
        (verdict("cheaper-api", "served", accuracy="88 %"), "as good as the API all the same: cheaper-api."),
        (verdict("keep-api", P95="2,000 ms"), "A larger one would be slower still."),
    ],
)
def test_where_a_larger_model_would_not_help_none_is_tried(ending: dict[str, Any], said: str) -> None:
    last, found, ran = climbed(ending)
    assert ran == ["small"]
    assert last.model == "small"
    assert said in found.told[0]
    assert (found.next is None) == (ending["decision"] == "classical")


def test_a_slow_model_that_is_not_good_either_is_followed_by_the_next() -> None:
    assert climbed(verdict("keep-api", P95="2,000 ms", accuracy="60 %"), MET)[2] == ["small", "middle"]


def test_the_last_may_pass() -> None:
    _, found, ran = climbed(MISSED, MISSED, MET)
    assert ran == ["small", "middle", "large"]
    assert found.told[-1] == "large meets every target."


def test_a_training_that_this_machine_can_t_hold_is_not_told_as_possible_here() -> None:
    small, large = (Here(8.0, 1, peak, "float32", Range(1.0, 1.4)) for peak in (4.0, 20.0))

    def told(here: Here) -> str:
        plan: Any = SimpleNamespace(here=here, cheapest=None, sentence="None of these fits.")
        return ladder._training(plan)

    assert told(small) == "60 to 84 min on this machine"
    assert told(large) == "None of these fits."


def test_an_encoder_is_a_rung_like_others(tmp_path: Path) -> None:
    spec = make_spec().model_copy(update={"models": (str(encoder_folder(tmp_path / "bert")), "smollm2-135m")})
    last, found = climb(spec, lambda rung: Run(rung.model_name, MET if rung.model == "smollm2-135m" else MISSED))
    assert [rung.model for rung in found.rungs] == ["bert", "smollm2-135m"]
    assert (last.model, found.left_out) == ("smollm2-135m", {})


def test_an_encoder_that_can_t_do_the_task_is_left_out_with_its_reason() -> None:
    task = {"kind": "generate", "instruction": "Answer."}
    spec = make_spec(task=task).model_copy(update={"models": ("all-minilm", "smollm2-135m")})
    last, found = climb(spec, lambda rung: Run(rung.model, MET))
    assert last.model == "smollm2-135m"
    assert found.told == [
        "all-minilm is left out: all-minilm is an encoder, and this task is generate: an encoder chooses a label, and "
        "can't write.",
        "smollm2-135m meets every target.",
    ]
    with pytest.raises(UserError, match="can't write"):
        climb(spec.model_copy(update={"models": ("all-minilm", "bert-base")}), lambda rung: Run(rung.model, MET))


def test_the_next_step_of_an_encoder_is_priced(tmp_path: Path) -> None:
    examples = [example("a b c", label) for label in LABELS for _ in range(8)]
    save_dataset(tmp_path / "split", Dataset(examples, [], {"test": examples}))
    usage = {"prompt_tokens": 500.0, "answer_tokens": 2.0}
    last: Any = SimpleNamespace(split=tmp_path / "split", data={"comparison": {"usage": usage}})
    found = NEXT_STEP(make_spec(model=str(encoder_folder(tmp_path / "bert"))), last)
    assert found.model == "bert"
    assert "on Standard_" in found.training
    assert found.serving.startswith("about $"), found
