"""Own models of every kind in the gateway: a linear model, an encoder, a language model, a chain of them, adapters on
one base, and a server. The models are random: what they answer is not the point."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.test_takeover import ask, counts, text_of
from tests.gateway.tickets import Messages, request, team_of
from tests.gateway.upstream import Upstream
from tests.serving.test_adapters import LABELS, base, encoder_bundle, linear_bundle, make_bundle, store  # noqa: F401
from tunewright.gateway.config import JobSpec, ModelSpec
from tunewright.inference.bundle import read_info, write_info
from tunewright.serving.child import running_server

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

MakeBundle = Callable[..., Path]
ALWAYS, NEVER = 0.0, 1.0
"""Thresholds: above which a model is sure."""


@pytest.fixture
def begin(start: Start, team_api: Upstream, tickets: Path) -> Callable[..., Running]:
    """Starts a gateway whose job is answered by these models."""

    def begin(mode: str, *models: ModelSpec) -> Running:
        job = JobSpec(project=tickets, models=list(models), mode=mode, audit=0)
        return start({"openai": team_api.url}, jobs={"tickets": job})

    return begin


@pytest.fixture
def rungs(make_bundle: MakeBundle, tmp_path: Path) -> dict[str, Path]:  # noqa: F811 (a fixture of another file)
    """A bundle of each kind, by its name. Its labels end with that name."""
    return {
        "linear": linear_bundle("linear", tmp_path / "linear"),
        "encoder": encoder_bundle("encoder", tmp_path / "encoder"),
        "lm": Path(shutil.copytree(make_bundle("lm", 0), tmp_path / "lm", symlinks=True)),
    }


def sure(bundle: Path, threshold: float) -> ModelSpec:
    """The bundle with another threshold."""
    write_info(bundle, read_info(bundle).model_copy(update={"threshold": threshold}))
    return ModelSpec(bundle=bundle)


@pytest.mark.parametrize("rung", ["linear", "encoder", "lm"])
def test_a_bundle_of_each_kind_answers_in_the_clients_form(
    rung: str, rungs: dict[str, Path], begin: Callable[..., Running], team_api: Upstream
) -> None:
    running = begin("own", ModelSpec(bundle=rungs[rung]))
    body = request(Messages(1).clear())
    whole = ask(running, body)
    assert text_of(whole) in [f"{label} {rung}" for label in LABELS]
    assert whole.headers["x-tunewright-bundle"] == read_info(rungs[rung]).version
    assert 0 < float(whole.headers["x-tunewright-confidence"]) <= 1
    assert whole.json()["usage"]["prompt_tokens"] > 0
    streamed = ask(running, body | {"stream": True}).text
    assert text_of(whole) in streamed
    assert streamed.endswith("data: [DONE]\n\n")
    until(lambda: counts(running)["own"] == 2)
    assert not team_api.asked


@pytest.mark.parametrize("answers", ["linear", "encoder", "lm", None])
def test_a_chain_asks_the_dearer_one_only_where_the_cheaper_is_not_sure(
    answers: str | None, rungs: dict[str, Path], begin: Callable[..., Running], team_api: Upstream
) -> None:
    models = [sure(bundle, ALWAYS if name == answers else NEVER) for name, bundle in rungs.items()]
    running = begin("cascade", *models)
    text = Messages(1).clear()
    answer = ask(running, request(text))
    if answers:
        assert text_of(answer).endswith(answers)
        assert answer.headers["x-tunewright-bundle"] == read_info(rungs[answers]).version
        assert not team_api.asked
    else:
        assert text_of(answer) == team_of(text)
        assert len(team_api.asked) == 1


def test_a_model_at_a_server_answers_by_its_name(
    rungs: dict[str, Path], begin: Callable[..., Running], team_api: Upstream
) -> None:
    with running_server(rungs["lm"]) as address:
        running = begin("own", ModelSpec(url=address, name="lm"))
        answer = ask(running, request(Messages(1).clear()))
        assert text_of(answer).endswith("lm")
        assert answer.headers["x-tunewright-bundle"] == f"{address}/lm"
        alone = httpx.post(f"{address}/v1/classify", json={"text": Messages(1).clear()}, timeout=60).json()
        assert (text_of(answer), float(answer.headers["x-tunewright-confidence"])) == (
            alone["label"],
            pytest.approx(alone["confidence"], abs=1e-4),
        )
    assert not team_api.asked


def test_jobs_share_a_base(
    start: Start,
    team_api: Upstream,
    tickets: Path,
    store: Path,  # noqa: F811 (a fixture of another file)
) -> None:
    jobs = {
        name: JobSpec(project=tickets, models=[ModelSpec(bundle=store, name=name)], mode="own", audit=0)
        for name in ("shop", "bank")
    }
    running = start({"openai": team_api.url}, jobs=jobs)
    assert running.gateway._hosts and len(running.gateway._hosts._hosts) == 1
    takeover = running.gateway._now.takeover
    assert takeover
    for name, job in takeover.jobs.items():
        assert asyncio.run(job.own_answer("Where is my parcel?")).text in [f"{label} {name}" for label in LABELS]
