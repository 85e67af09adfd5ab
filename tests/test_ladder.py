from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tunewright import ladder
from tunewright.ladder import NextStep, Rung, climb
from tunewright.spec import Spec

NEXT = NextStep("large", "2.0 h and $1.50 on a card", "about $400 a month on 1 x a card")


@dataclass
class Run:
    """A job that ended with a decision; `met` says of each target whether it is met."""

    model: str
    decision: str
    met: tuple[bool, ...]
    split: Path = Path("/nowhere")
    data: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        targets = [{"name": f"target {n}", "met": met, "found": "60 %"} for n, met in enumerate(self.met)]
        self.data = {"verdict": {"decision": self.decision, "targets": targets}}


@pytest.fixture(autouse=True)
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "next_step", lambda spec, last: NextStep(spec.model, NEXT.training, NEXT.serving))  # noqa: ARG005


def climbed(*outcomes: tuple[str, tuple[bool, ...]]) -> tuple[Run, ladder.Ladder, list[str]]:
    """A ladder of three models whose runs end so, and the models that were run."""
    spec = make_spec().model_copy(update={"models": ("small", "middle", "large")})
    ran: list[str] = []

    def run(rung: Spec) -> Run:
        ran.append(rung.model)
        return Run(rung.model, *outcomes[len(ran) - 1])

    return (*climb(spec, run), ran)


MISSED, MET = ("keep-api", (True, False)), ("switch", (True, True))


def test_the_first_that_meets_every_target_ends_the_ladder() -> None:
    last, found, ran = climbed(MISSED, MET)
    assert ran == ["small", "middle"]
    assert last.model == "middle"
    assert found.rungs == [Rung("small", "keep-api", ["target 1 (60 %)"]), Rung("middle", "switch", [])]
    assert found.next == NEXT
    assert found.told == [
        "small misses target 1 (60 %).",
        "middle meets every target.",
        "The next step would be large: training 2.0 h and $1.50 on a card; serving about $400 a month on 1 x a card.",
    ]


def test_all_are_tried_where_none_passes() -> None:
    last, found, ran = climbed(MISSED, MISSED, MISSED)
    assert ran == ["small", "middle", "large"]
    assert (last.model, found.next) == ("large", None)
    assert found.told[-1] == "It was the last of the ladder."


def test_where_something_simpler_is_enough_nothing_larger_is_tried() -> None:
    _, found, ran = climbed(("classical", (False,)))
    assert ran == ["small"]
    assert "Something simpler is enough" in found.told[0]


def test_the_last_may_pass() -> None:
    _, found, ran = climbed(MISSED, MISSED, MET)
    assert ran == ["small", "middle", "large"]
    assert found.told[-1] == "No larger model was left to try."
