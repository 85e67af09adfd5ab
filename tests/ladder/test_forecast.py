"""Forecasts for candidates that were not tried."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.ladder.test_search import Run
from tunewright.ladder import forecast as module
from tunewright.ladder.forecast import forecast_candidate
from tunewright.pipeline.planning.steps import StepsPlan
from tunewright.tasks import Example, Meta


def of_a_month(*items: tuple[str, float | None]) -> Run:
    """A run with these parts of a month of its model."""
    parts = [{"name": name, "usd_per_month": usd} for name, usd in items]
    return Run("small", {"comparison": {"money": {"items": parts}}}, {"split": Path("/nowhere")})


def test_serving_costs_what_the_candidates_beside_it_cost_besides_their_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page and the search compare it with candidates that were tried, whose months have their upkeep."""
    dataset = SimpleNamespace(test_examples=[Example.of("Where is my parcel?", "delivery", Meta(id="1"))])
    monkeypatch.setattr(module, "load_dataset", lambda folder: dataset)  # noqa: ARG005
    planned: Any = SimpleNamespace(here=StepsPlan([]), azure=StepsPlan([]), training=SimpleNamespace(cheapest=None))

    def forecast(last: Run) -> Any:
        return forecast_candidate(make_spec(model="smollm2-135m"), last, [], lambda spec, outcome: planned)  # noqa: ARG005

    bare = forecast(of_a_month(("machines", 70.0), ("standby", 70.0), ("retraining", None)))
    whole = forecast(of_a_month(("machines", 70.0), ("reviews", 304.17), ("storage", 9.82), ("retraining", None)))
    assert bare.serving_usd and whole.serving_usd == pytest.approx(bare.serving_usd + 313.99)
    assert f"about ${whole.serving_usd:,.0f} a month" in whole.serving
